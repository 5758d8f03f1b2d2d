//! README, "Commands": what a person runs by hand, at this machine and at recorders.

use serde_json::Value;

use super::{Desk, root, told};
use crate::harness::camera::RtspServer;
use crate::harness::footage::archived;
use crate::harness::media::{self, Clip};
use crate::nuuo;
use crate::nuuo::server::{Camera, Dialect, Server};
use crate::onvif::device::Device;

fn json(said: &str) -> Value {
    serde_json::from_str(said).unwrap_or_else(|error| panic!("{error}: {said}"))
}

#[tokio::test]
async fn by_hand() {
    let mut desk = Desk::new("by_hand");
    // Where there is no camera, that is said, and the exit code is 1.
    let devices = desk.take("edgecam devices");
    let said = desk.shell(&format!("{devices} || [ $? = 1 ]")).await;
    assert!(said.contains("/dev/video"), "{said}");
    let said = desk.form("edgecam devices [--json] [--all]", true, &[]).await;
    assert!(json(&said[0]).is_array(), "{said:?}");

    let said = desk.run("edgecam schema").await;
    assert!(json(&said)["properties"]["cameras"].is_object(), "{said}");

    let times = [("T", "2026-11-21T08:00:00Z"), ("T", "2026-11-21T08:05:00Z")];
    let values = [&[("BRAND", "hikvision"), ("H", "10.0.0.7"), ("N", "2")][..], &times].concat();
    let synopsis = "edgecam rtsp-url BRAND --host H [--channel N] [--stream main|sub|third] [--start T --end T]";
    let said = desk.forms(synopsis, &values).await;
    let urls: Vec<&str> =
        said.iter().filter_map(|said| said.lines().find(|line| line.starts_with("rtsp://"))).collect();
    let [live, recorded @ ..] = urls.as_slice() else { panic!("{said:?}") };
    assert_eq!(*live, "rtsp://10.0.0.7:554/Streaming/Channels/101");
    for (url, channel) in recorded.iter().zip(["201", "202", "203"]) {
        let wanted = format!("/Streaming/tracks/{channel}?starttime=20261121t080000z&endtime=20261121t080500z");
        assert!(url.ends_with(&wanted), "{url}");
    }
    assert_eq!(recorded.len(), 3, "{said:?}");

    let model = root().join("agent/vision/models/shapes.onnx").display().to_string();
    let square = "color=0x404850:size=640x480:rate=5,drawbox=x=200:y=150:w=120:h=120:color=orange:t=fill";
    for (name, how) in
        [("a.jpg", &["-frames:v", "1", "-update", "1"][..]), ("a.mp4", &["-t", "1", "-pix_fmt", "yuv420p"])]
    {
        let file = desk.scratch.join(name).display().to_string();
        let make = ["-v", "error", "-f", "lavfi", "-i", square];
        media::tool("ffmpeg", &[&make[..], how, &[&file]].concat()).await;
    }
    let values = [("IMAGE", "a.jpg"), ("VIDEO", "a.mp4"), ("FILE.onnx", &model)];
    let said = desk.forms("edgecam detect IMAGE|VIDEO [--model FILE.onnx] [--json]", &values).await;
    assert!(said.len() == 4 && said.iter().all(|said| said.contains("square")), "{said:?}");
    assert!(desk.scratch.join("detections.jpg").is_file(), "the picture with boxes");
    let said = desk.form("edgecam bench-model FILE.onnx", true, &[("FILE.onnx", &model)]).await;
    assert!(["load", "memory", "where it goes", "advice"].iter().all(|word| said[0].contains(word)), "{said:?}");

    let tool = desk.scratch.join("bin/mxuvc");
    desk.stand_in("mxuvc", &format!("echo \"$@\" >> {}", desk.scratch.join("asked").display()));
    desk.stand_in(
        "sudo",
        &format!("[ \"$1\" = -n ]\nshift\necho as root >> {}\nexec \"$@\"", desk.scratch.join("asked").display()),
    );
    desk.instead("edgecam encoder", format!("edgecam encoder --tool {}", tool.display()));
    let synopsis = "edgecam encoder [--ch N] [--prefix sudo --prefix -n] resolution 1280 720";
    desk.forms(synopsis, &[("N", "2")]).await;
    let asked = std::fs::read_to_string(desk.scratch.join("asked")).expect("the tool was asked");
    assert_eq!(asked, "--ch 1 resolution 1280 720\nas root\n--ch 2 resolution 1280 720\n");
}

#[tokio::test]
async fn recorders() {
    let mut desk = Desk::new("recorders");
    let (units, _) = nuuo::clip(6).await;
    let recorder = Server::start(Dialect::Crystal, vec![Camera::new("7", "Hall", &units)]);
    let file = Clip::new(8).file().await;
    let server = RtspServer::start(0, &["--auth", "digest", "--file", &file.to_string_lossy()]).await;
    let device = Device::start(server.port).await;
    desk.scratch.write("nuuo", "pa ss\n");
    desk.scratch.write("rtsp", "test\n");
    let synopsis = "edgecam nvr list nuuo://HOST[:PORT]|onvif://HOST[:PORT] [--username U --password-file F] [--json]";
    desk.take(synopsis);
    let urls = [format!("nuuo://127.0.0.1:{}", recorder.port), format!("onvif://127.0.0.1:{}", device.port)];
    for (index, (file, wanted)) in [("nuuo", "Hall"), ("rtsp", "mainStream")].into_iter().enumerate() {
        let values = [("nuuo://HOST:PORT", &*urls[0]), ("onvif://HOST:PORT", &urls[1]), ("U", "admin"), ("F", file)];
        let said = desk.shell(&told::forms(synopsis, true, &values)[index]).await;
        assert!(json(&said).to_string().contains(wanted), "{said}");
    }
    recorder.assert_well_asked();

    let url = server.url();
    let range = "2026-03-01T08:00:00Z/2026-03-01T08:00:02Z";
    let values = [("NEW_DIR", "fetched"), ("RTSP_URL", &url), ("START/END", range), ("U", "admin"), ("F", "rtsp")];
    let synopsis = "edgecam archive fetch NEW_DIR RTSP_URL START/END [--username U --password-file F]";
    let said = desk.form(synopsis, true, &values).await;
    assert!(said[0].contains("30 pictures from 2026-03-01T08:00:00"), "{said:?}");
    assert_eq!(archived(&desk.scratch.join("fetched")).await.len(), 30);
}
