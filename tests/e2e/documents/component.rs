//! greengrass/README: the component is made, deployed by stand-ins for the nuclei's tools, and a fleet by AWS's own tool.

use serde_json::Value;

use super::Desk;
use super::made::check_out;
use crate::harness::moto::Moto;

/// Leaves a program where `cross/build` does.
const BUILD: &str = "cd \"$(dirname \"$0\")/..\"
case $1 in armv7) target=armv7-unknown-linux-musleabihf ;; *) target=$1-unknown-linux-musl ;; esac
mkdir -p target/$target/release
echo \"$1\" > target/$target/release/edgecam
chmod 755 target/$target/release/edgecam";

/// Takes the options that the nuclei's tools have, and looks where they look.
const DEPLOY: &str = "while [ $# -gt 0 ]; do
  case $1 in RECIPES) recipes=$2 ;; ARTIFACTS) artifacts=$2 ;; COMPONENT) component=$2 ;; *) exit 64 ;; esac
  shift 2
done
name=${component%=*} version=${component#*=}
grep -q \"^ComponentVersion: \\\"$version\\\"$\" \"$recipes/$name-$version.yaml\"
ls \"$artifacts/$name/$version\"";

/// Runs what the config says is to be run, and looks for what GDK sends.
const GDK: &str = "[ \"$1\" = component ]
case $2 in
  build) $(python3 -c 'import json
[component] = json.load(open(\"gdk-config.json\"))[\"component\"].values()
print(*component[\"build\"][\"custom_build_command\"])') ;;
  publish) ls greengrass-build/recipes/recipe.yaml greengrass-build/artifacts/com.edgecam.Agent/*/edgecam-armv7 ;;
  *) exit 64 ;;
esac";

fn all_are_there(said: &str) {
    assert!(["aarch64", "armv7", "x86_64"].iter().all(|name| said.contains(&format!("edgecam-{name}"))), "{said}");
}

#[tokio::test]
async fn component() {
    let mut desk = Desk::new("component");
    check_out(&desk, &["cross", "greengrass"]);
    desk.stand_in("build", BUILD);
    std::fs::rename(desk.scratch.join("bin/build"), desk.scratch.join("cross/build")).expect("in its place");
    std::fs::create_dir_all(desk.scratch.join("path/to")).expect("made");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_edgecam"), desk.scratch.join("path/to/edgecam")).expect("a link");
    let said = desk.run("greengrass/package aarch64=path/to/edgecam").await;
    assert!(said.contains(" for aarch64 in "), "{said}");
    let said = desk.run("greengrass/package aarch64 armv7 x86_64").await;
    assert!(said.contains(" for aarch64 armv7 x86_64 in "), "{said}");

    let tool = |recipes: &str, artifacts: &str, component: &str| {
        DEPLOY.replace("RECIPES", recipes).replace("ARTIFACTS", artifacts).replace("COMPONENT", component)
    };
    let lite = tool("--recipe-dir", "--artifacts-dir", "--add-component");
    desk.stand_in("ggl-cli", &format!("[ \"$1\" = deploy ]\nshift\n{lite}"));
    let said = desk
        .run(
            "ggl-cli deploy --recipe-dir greengrass/greengrass-build/local/recipes --artifacts-dir \
             greengrass/greengrass-build/artifacts --add-component com.edgecam.Agent=0.1.0",
        )
        .await;
    all_are_there(&said);
    let classic = tool("--recipeDir", "--artifactDir", "--merge");
    desk.stand_in("greengrass-cli", &format!("[ \"$1 $2\" = 'deployment create' ]\nshift 2\n{classic}"));
    let said = desk
        .run(
            "greengrass-cli deployment create --recipeDir greengrass/greengrass-build/local/recipes --artifactDir \
             greengrass/greengrass-build/artifacts --merge com.edgecam.Agent=0.1.0",
        )
        .await;
    all_are_there(&said);
    std::fs::remove_dir_all(desk.scratch.join("greengrass/greengrass-build")).expect("removed");
    desk.stand_in("gdk", GDK);
    let said = desk.run("(cd greengrass && gdk component build && gdk component publish)").await;
    assert!(said.contains("recipes/recipe.yaml"), "{said}");

    let filled = desk
        .run(
            "sed 's/REGION/eu-west-1/; s/ACCOUNT/123456789012/; s/BUCKET/my-bucket/; s/ROLE_ALIAS/my-alias/' \
             greengrass/policies/core-device.json",
        )
        .await;
    let policy: Value = serde_json::from_str(&filled).expect("JSON");
    let text = policy.to_string();
    assert!(!["REGION", "ACCOUNT", "BUCKET", "ROLE_ALIAS"].iter().any(|word| text.contains(word)), "{text}");

    groups(&mut desk).await;
}

/// In files instead of this machine's.
async fn groups(desk: &mut Desk) {
    std::fs::create_dir_all(desk.scratch.join("etc")).expect("made");
    let line = |name: &str, id: u32| format!("{name}:x:{id}:{id}::/:/bin/sh\n");
    desk.scratch.write("etc/passwd", [line("root", 0), line("ggc_user", 1001), line("gg_component", 1002)].concat());
    desk.scratch.write("etc/group", "root:x:0:\nvideo:x:44:\nggc_user:x:1001:\ngg_component:x:1002:\n");
    let is_root = rustix::process::geteuid().is_root();
    let sudo = if is_root { "" } else { "sudo " };
    desk.instead("usermod", format!("{sudo}/usr/sbin/usermod --prefix {}", desk.scratch.path().display()));
    desk.run("usermod -aG video ggc_user").await;
    desk.run("usermod -aG video gg_component").await;
    let groups = std::fs::read_to_string(desk.scratch.join("etc/group")).expect("groups");
    assert!(groups.contains("video:x:44:ggc_user,gg_component\n"), "{groups}");
}

/// moto knows thing, policy, role and alias of the template, and passes over what else is in it.
#[tokio::test]
async fn fleet() {
    let mut desk = Desk::new("fleet");
    check_out(&desk, &[]);
    let moto = Moto::start().await;
    std::os::unix::fs::symlink(moto.program("aws"), desk.scratch.join("bin/aws")).expect("a link");
    for (name, value) in [
        ("AWS_ENDPOINT_URL", &*format!("http://127.0.0.1:{}", moto.port)),
        ("AWS_ACCESS_KEY_ID", "x"),
        ("AWS_SECRET_ACCESS_KEY", "y"),
        ("AWS_DEFAULT_REGION", "eu-west-1"),
    ] {
        desk.environment.push((name.to_owned(), value.to_owned()));
    }
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout gw-1.key";
    desk.shell(&format!("openssl req -new {key} -subj /CN=gw-1 -out gw-1.csr")).await;
    desk.instead("-ACCOUNT", "-123456789012");
    let said = desk
        .run(
            "aws cloudformation deploy --template-file greengrass/cloudformation.yaml --stack-name edgecam-gw-1 \
             --capabilities CAPABILITY_IAM --parameter-overrides ThingName=gw-1 \
             ArtifactBucket=edgecam-components-eu-west-1-ACCOUNT CertificateSigningRequest=\"$(cat gw-1.csr)\" \
             CameraName=door CameraUrl=rtsp://admin:PASSWORD@10.0.0.7/101",
        )
        .await;
    assert!(said.contains("Successfully created/updated stack - edgecam-gw-1"), "{said}");
    let things = desk.shell("aws iot list-things; aws iot list-policies; aws iot list-role-aliases").await;
    assert!(things.contains("\"thingName\": \"gw-1\""), "{things}");
    // The template's group is one of those things that moto passes over.
    desk.shell("aws iot create-thing-group --thing-group-name edgecam").await;
    desk.run("aws iot add-thing-to-thing-group --thing-name gw-1 --thing-group-name edgecam").await;
    let said = desk.shell("aws iot list-things-in-thing-group --thing-group-name edgecam").await;
    assert!(said.contains("gw-1"), "{said}");
}
