//! A program for inside the virtual machine: what a camera's other users do. It speaks to drivers by the crate `v4l` alone,
//! so that it shares nothing with the code that is tested.
//!
//! `tool play FRAMES DEVICE WIDTH HEIGHT FPS` writes H.264 to a loopback device; FRAMES holds pictures, each behind its
//! length (32 bits, big endian), and is played again and again. `tool set DEVICE CONTROL VALUE` sets a control or presses a
//! button. `tool get DEVICE CONTROL` prints one. `tool ask PORT PATH [BODY]` prints what the agent answers to a
//! GET, or to a POST.

#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a small program of the tests")]

use std::io::Write;
use std::time::{Duration, Instant};

use v4l::control::{Control, Description, Type, Value};
use v4l::video::Output;
use v4l::{Device, Format, FourCC};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["play", frames, device, width, height, fps] => {
            play(frames, device, (width.parse()?, height.parse()?), fps.parse()?)
        }
        ["set", device, control, value] => set(device, control, value.parse()?),
        ["get", device, control] => get(device, control),
        ["ask", port, path] => ask(port, "GET", path, ""),
        ["ask", port, path, body] => ask(port, "POST", path, body),
        _ => Err("play, set, get or ask".into()),
    }
}

fn play(frames: &str, device: &str, (width, height): (u32, u32), fps: f64) -> Result<()> {
    let frames = std::fs::read(frames)?;
    let mut device = Device::with_path(device)?;
    let mut format = Format::new(width, height, FourCC::new(b"H264"));
    format.size = 1 << 20;
    device.set_format(&format)?;
    let begun = Instant::now();
    let mut count = 0_u32;
    loop {
        let mut rest = &frames[..];
        while let Some((length, after)) = rest.split_first_chunk::<4>() {
            let (frame, after) = after.split_at(u32::from_be_bytes(*length) as usize);
            rest = after;
            let due = begun + Duration::from_secs_f64(f64::from(count) / fps);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            count += 1;
            device.write_all(frame)?;
        }
    }
}

fn ask(port: &str, method: &str, path: &str, body: &str) -> Result<()> {
    let mut stream = std::net::TcpStream::connect(format!("127.0.0.1:{port}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n")?;
    write!(stream, "Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut stream, &mut answer)?;
    println!("{}", answer.split_once("\r\n\r\n").map_or("", |(_, body)| body));
    Ok(())
}

fn find(device: &Device, name: &str) -> Result<Description> {
    let plain = |text: &str| text.to_lowercase();
    let found = device.query_controls()?.into_iter().find(|control| plain(&control.name) == plain(name));
    found.ok_or_else(|| format!("no control is called {name}").into())
}

fn set(device: &str, name: &str, value: i64) -> Result<()> {
    let device = Device::with_path(device)?;
    let control = find(&device, name)?;
    let value = match control.typ {
        Type::Boolean => Value::Boolean(value != 0),
        Type::Button => Value::None,
        _ => Value::Integer(value),
    };
    Ok(device.set_control(Control { id: control.id, value })?)
}

fn get(device: &str, name: &str) -> Result<()> {
    let device = Device::with_path(device)?;
    match device.control(find(&device, name)?.id)?.value {
        Value::Integer(value) => println!("{value}"),
        Value::Boolean(value) => println!("{}", i32::from(value)),
        _ => println!("-"),
    }
    Ok(())
}
