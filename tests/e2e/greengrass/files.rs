//! What a user is told to copy: recipe, default configuration, policies, template, package.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../greengrass")
}

fn read(name: &str) -> String {
    let path = directory().join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).expect("YAML")
}

/// What is wrong with a recipe for one of the nuclei. Keys are by case: nucleus lite reads no others
/// (modules/ggl-recipe, recipe2unit, ggdeploymentd), the classic nucleus reads any.
fn lint(recipe: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut keys = |place: &str, value: &Value, known: &[&str]| {
        for key in value.as_object().into_iter().flatten().map(|(key, _)| key) {
            if !known.contains(&key.as_str()) {
                wrong.push(format!("{place}: `{key}` is not one of {known:?}"));
            }
        }
    };
    let top = [
        "RecipeFormatVersion",
        "ComponentName",
        "ComponentVersion",
        "ComponentDescription",
        "ComponentPublisher",
        "ComponentDependencies",
        "ComponentConfiguration",
        "Manifests",
    ];
    keys("recipe", recipe, &top);
    keys("ComponentConfiguration", &recipe["ComponentConfiguration"], &["DefaultConfiguration"]);
    for dependency in recipe["ComponentDependencies"].as_object().into_iter().flatten().map(|(_, value)| value) {
        keys("dependency", dependency, &["VersionRequirement", "DependencyType"]);
    }
    for manifest in recipe["Manifests"].as_array().into_iter().flatten() {
        keys("manifest", manifest, &["Name", "Platform", "Lifecycle", "Artifacts"]);
        keys("Platform", &manifest["Platform"], &["os", "architecture", "architecture.detail", "runtime"]);
        // `shutdown`, `recover` and `bootstrap` never run on lite: a recipe that needs them works on one of them only.
        keys("Lifecycle", &manifest["Lifecycle"], &["install", "run", "startup"]);
        for phase in manifest["Lifecycle"].as_object().into_iter().flatten().map(|(_, value)| value) {
            keys("phase", phase, &["Script", "Setenv", "RequiresPrivilege", "Timeout"]);
        }
        for artifact in manifest["Artifacts"].as_array().into_iter().flatten() {
            keys("artifact", artifact, &["Uri", "Unarchive", "Permission"]);
            keys("Permission", &artifact["Permission"], &["Read", "Execute"]);
        }
    }
    let mut must = |holds: bool, what: &str| {
        if !holds {
            wrong.push(what.to_owned());
        }
    };
    must(recipe["RecipeFormatVersion"] == "2020-01-25", "RecipeFormatVersion");
    let name = recipe["ComponentName"].as_str().unwrap_or_default();
    must(name.contains('.') && !name.starts_with("aws.greengrass"), "ComponentName is no reverse domain name");
    let version = recipe["ComponentVersion"].as_str().unwrap_or_default();
    must(version.split('.').filter(|part| part.parse::<u32>().is_ok()).count() == 3, "ComponentVersion is no version");
    let token_exchange = &recipe["ComponentDependencies"]["aws.greengrass.TokenExchangeService"];
    must(token_exchange["DependencyType"] == "HARD", "no hard dependency on the token exchange service");
    let mut platforms = BTreeSet::new();
    for manifest in recipe["Manifests"].as_array().into_iter().flatten() {
        let platform = &manifest["Platform"];
        must(platform["runtime"] == "*", "without `runtime: \"*\"` lite passes over the manifest");
        must(platform["os"] == "linux", "lite runs lifecycles for linux only");
        let architecture = platform["architecture"].as_str().unwrap_or_default();
        must(["aarch64", "arm", "amd64"].contains(&architecture), "the architecture is not one of Greengrass'");
        must(platforms.insert(architecture.to_owned()), "two manifests for one architecture");
        let script = manifest["Lifecycle"]["run"]["Script"].as_str().unwrap_or_default();
        must(script.starts_with("exec {artifacts:path}/"), "the script does not `exec`: signals would not arrive");
        must(!script.contains("{configuration:"), "the script takes configuration by interpolation");
        let artifact = &manifest["Artifacts"][0];
        let file = artifact["Uri"].as_str().and_then(|uri| uri.rsplit('/').next()).unwrap_or("?");
        must(script.contains(&format!("/{file} ")), "the script does not run the artifact");
        must(artifact["Permission"]["Execute"] == "ALL", "the component's user may not run the artifact");
    }
    must(!platforms.is_empty(), "no manifest");
    wrong
}

#[test]
fn the_recipe_is_for_both_nuclei() {
    let text = read("recipe.yaml");
    assert_eq!(lint(&yaml(&text)), Vec::<String>::new());
    for (part, instead) in [
        ("      - Uri: s3", "      - URI: s3"),
        ("        Script: exec", "        script: exec"),
        ("      run:\n", "      Run:\n"),
        ("      runtime: \"*\"\n", ""),
        ("Script: exec {artifacts:path}/edgecam-armv7", "Script: {artifacts:path}/edgecam-armv7"),
        ("edgecam-armv7 run", "edgecam-arm run"),
        ("    DependencyType: HARD", "    DependencyType: SOFT"),
        ("          Execute: ALL", "          Execute: NONE"),
        ("com.edgecam.Agent\nComponentVersion", "aws.greengrass.Agent\nComponentVersion"),
        ("architecture: amd64", "architecture: x86_64"),
    ] {
        let changed = text.replacen(part, instead, 1);
        assert_ne!(changed, text, "{part} is not in the recipe");
        let found = serde_saphyr::from_str::<Value>(&changed).map(|recipe| lint(&recipe));
        assert!(found.is_err() || found.is_ok_and(|wrong| !wrong.is_empty()), "`{instead}` is not found");
    }
}

/// It is a config as it is, starts nothing, and what the agent uses of the nucleus is allowed.
#[tokio::test]
async fn the_default_configuration_is_a_config() {
    let recipe = yaml(&read("recipe.yaml"));
    let mut core = Core::new("gg-default", Vec::new()).await;
    let default = &recipe["ComponentConfiguration"]["DefaultConfiguration"];
    let mut configuration = default.clone();
    // The test's port.
    configuration["http"] = core.rig.config["http"].clone();
    core.nucleus.configure(configuration);
    core.start();
    core.nucleus.heard("edgecam/e2e/status", |status| status["status"] == "online").await;
    let health = http::get(core.rig.port, "/health").await.expect("an answer").json();
    assert_eq!((&health["status"], &health["streams"]), (&json!("healthy"), &json!(0)), "{health:#}");
    let used: BTreeSet<String> = core.nucleus.state().calls.iter().map(|(operation, _)| operation.clone()).collect();
    let topics = core.nucleus.calls("SubscribeToIoTCore").into_iter().chain(core.nucleus.calls("PublishToIoTCore"));
    let topics: Vec<String> = topics.filter_map(|request| Some(request["topicName"].as_str()?.to_owned())).collect();
    core.rig.stop().await;

    // Operations that need no permission (developer guide, "Authorize components to perform IPC operations").
    let free = [
        "GetConfiguration",
        "SubscribeToConfigurationUpdate",
        "SubscribeToValidateConfigurationUpdates",
        "SubscribeToComponentUpdates",
        "UpdateState",
    ];
    let policies: Vec<&Value> = default["accessControl"]
        .as_object()
        .expect("access control")
        .values()
        .flat_map(|service| service.as_object().expect("policies").values())
        .collect();
    let allows = |operation: &str| {
        let name = format!("aws.greengrass#{operation}");
        policies.iter().any(|policy| policy["operations"].as_array().is_some_and(|all| all.contains(&json!(name))))
    };
    for operation in used.iter().filter(|operation| !free.contains(&operation.as_str())) {
        assert!(allows(operation), "{operation} is used and not in accessControl");
    }
    assert!(allows("PublishToTopic") && allows("GetSecretValue"), "what a config may ask for");
    assert!(!topics.is_empty() && topics.iter().all(|topic| topic.starts_with("edgecam/")), "{topics:?}");

    let file = core.rig.scratch.write("default.json", without_access_control(default).to_string());
    let arguments = ["check", "--offline", "--config", &file.to_string_lossy()];
    let output = crate::harness::agent::run(&core.rig.environment, &arguments, PATIENCE).await;
    assert!(output.status.success(), "{}", crate::harness::agent::text(&output));
}

fn without_access_control(configuration: &Value) -> Value {
    let mut own = configuration.clone();
    own.as_object_mut().expect("a map").remove("accessControl");
    own
}

/// Each statement says what for; what is allowed is named, action by action; everything only where AWS knows no less.
#[test]
fn policies() {
    let mut count = 0;
    for entry in std::fs::read_dir(directory().join("policies")).expect("a directory").flatten() {
        let text = std::fs::read_to_string(entry.path()).expect("text");
        let policy: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(policy["Version"], "2012-10-17", "{}", entry.path().display());
        for statement in policy["Statement"].as_array().expect("statements") {
            count += 1;
            assert_eq!(statement["Effect"], "Allow");
            let actions = list(&statement["Action"]);
            assert!(!actions.is_empty() && actions.iter().all(|action| !action.contains('*')), "{statement:#}");
            if statement.get("Principal").is_some() {
                continue;
            }
            assert!(statement["Sid"].is_string(), "{statement:#}");
            for resource in list(&statement["Resource"]) {
                // Greengrass' calls of a core device have no resources of their own that a policy could name.
                let is_known = resource == "*" && actions.iter().all(|action| action.starts_with("greengrass:"));
                let is_of_thing = resource.contains(":ThingName}") || resource.contains("Thing.ThingName}");
                let is_named = is_of_thing || resource.contains("BUCKET/") || resource.ends_with("/ROLE_ALIAS");
                assert!(is_known || (resource.starts_with("arn:aws:") && is_named), "{resource}");
            }
        }
    }
    assert!(count > 15, "{count} statements");
}

fn list(value: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    value.as_array().map_or_else(|| vec![text(value)], |all| all.iter().map(text).collect())
}

/// The template is one, allows what the policies allow, and brings a config.
#[tokio::test]
async fn the_template() {
    let text = read("cloudformation.yaml");
    for policy in ["policies/core-device.json", "policies/token-exchange-role.json"] {
        let policy: Value = serde_json::from_str(&read(policy)).expect("JSON");
        for statement in policy["Statement"].as_array().expect("statements") {
            let sid = statement["Sid"].as_str().expect("a name");
            let own = text.split(&format!("Sid: {sid}\n")).nth(1).and_then(|rest| rest.split("- Sid:").next());
            let own = own.unwrap_or_else(|| panic!("{sid} is not in the template"));
            for action in list(&statement["Action"]) {
                assert!(own.contains(&action), "{sid}: {action} is not in the template");
            }
            let of_aws = |resource: &str| resource.rsplit("ACCOUNT:").next().unwrap_or_default().replace("${", "${!");
            for resource in list(&statement["Resource"])
                .iter()
                .filter(|resource| resource.contains("ACCOUNT:") && !resource.ends_with("ROLE_ALIAS"))
            {
                assert!(own.contains(&of_aws(resource)), "{sid}: {resource} is not in the template");
            }
        }
    }
    let merge = text.split("Merge: !Sub |\n").nth(1).and_then(|rest| rest.split("      DeploymentPolicies").next());
    let merge = merge.expect("a configuration").replace("${AWS::Region}", "eu-west-1").replace("${CameraName}", "door");
    let config = edgecam::config::parse(&merge).expect("a config");
    assert_eq!(config.cameras[0].upload.as_ref().map(|upload| upload.stream.ends_with("-door")), Some(true));
    let bin = python::environment("cfn-lint", &["cfn-lint==1.58.0"]).await;
    let output = Command::new(bin.join("cfn-lint")).arg(directory().join("cloudformation.yaml")).output();
    let output = output.expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// The package is what GDK and both command lines want, and what is in it runs as a nucleus runs it.
#[tokio::test]
async fn the_package_runs() {
    let mut core = Core::new("gg-package", vec![drawn("cam1")]).await;
    let binary = env!("CARGO_BIN_EXE_edgecam");
    let out = core.rig.scratch.join("build");
    let package = |arguments: &[&str]| {
        let mut command = Command::new(directory().join("package"));
        command.args(["--bucket", "my-bucket", "--out"]).arg(&out).args(arguments).output().expect("it runs")
    };
    let made = package(&[&format!("x86_64={binary}"), &format!("armv7={binary}")]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let text = std::fs::read_to_string(out.join("recipes/recipe.yaml")).expect("a recipe");
    let recipe = yaml(&text);
    assert_eq!(lint(&recipe), Vec::<String>::new());
    let (name, version) = (recipe["ComponentName"].as_str().expect("a name"), env!("CARGO_PKG_VERSION"));
    assert_eq!(recipe["ComponentVersion"], version);
    let local = out.join(format!("local/recipes/{name}-{version}.yaml"));
    assert_eq!(std::fs::read_to_string(local).ok(), Some(text));
    let manifests = recipe["Manifests"].as_array().expect("manifests");
    assert_eq!(manifests.len(), 2, "what was not built is left out");
    let artifacts = out.join(format!("artifacts/{name}/{version}"));
    for manifest in manifests {
        let uri = manifest["Artifacts"][0]["Uri"].as_str().expect("an address");
        let file = uri.strip_prefix(&format!("s3://my-bucket/{name}/{version}/")).expect("in the bucket");
        assert!(artifacts.join(file).is_file(), "{file}");
    }
    let script =
        manifests.iter().find(|one| one["Name"] == "x86_64").expect("ours")["Lifecycle"]["run"]["Script"].clone();
    let script = script.as_str().expect("a script").replace("{artifacts:path}", &artifacts.to_string_lossy());
    let environment = [core.rig.environment.clone(), core.nucleus.environment()].concat();
    let log = core.rig.scratch.join("agent.log");
    let agent = Agent::start_script(&script, &core.rig.scratch.join("work"), core.rig.port, &log, &environment);
    core.rig.agent = Some(agent);
    core.rig.agent().until_state("cam1", "streaming").await;
    // The shell is gone: the signal reaches the agent.
    core.rig.stop().await;
    core.nucleus.assert_well_behaved();

    for (arguments, says) in
        [(&[][..], "which architectures"), (&["riscv"], "'riscv'"), (&["x86_64=/nothing"], "not a program")]
    {
        let refused = package(arguments);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && said.contains(says), "{arguments:?}: {said}");
    }
    let gdk: Value = serde_json::from_str(&read("gdk-config.json")).expect("JSON");
    let component = &gdk["component"][name];
    assert_eq!((&component["version"], &component["build"]["build_system"]), (&json!(version), &json!("custom")));
    assert!(directory().join(component["build"]["custom_build_command"][0].as_str().expect("a command")).is_file());
}

/// What the page's commands name is what is shipped; the commands themselves are run by `documents`.
#[test]
fn the_page() {
    let page = read("README.md");
    let version = format!("com.edgecam.Agent={}", env!("CARGO_PKG_VERSION"));
    assert_eq!(page.matches(&version).count(), 2, "the version of local deployments");
    let template = read("cloudformation.yaml");
    let deploy = page.split("--parameter-overrides ").nth(1).and_then(|rest| rest.split("\naws ").next());
    let words = deploy.expect("the template's command").split_whitespace();
    let parameters: Vec<&str> = words.filter_map(|word| word.split_once('=')).map(|(name, _)| name).collect();
    assert!(parameters.len() > 4, "{parameters:?}");
    for parameter in parameters {
        assert!(template.contains(&format!("\n  {parameter}:\n    Type:")), "{parameter} is no parameter");
    }
    for link in page.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
        assert!(directory().join(link).exists(), "{link} is not there");
    }
}
