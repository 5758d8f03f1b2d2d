//! Runs models for `tests/bench/run inference`: what a run costs in CPU time of its thread.
//!
//! usage: bench_inference MODEL.onnx …, then lines `INDEX RUNS` or `prepare INDEX RUNS` on standard input, each answered by
//! the median in milliseconds. Pictures are 1280x720.

use std::error::Error;
use std::io::{BufRead, Write};
use std::time::Duration;

use edgecam_vision::{Description, Model, Planes};
use rustix::time::{ClockId, clock_gettime};

const WIDTH: u32 = 1280;
const HEIGHT: u32 = 720;

fn main() -> Result<(), Box<dyn Error>> {
    let mut runners = Vec::new();
    for path in std::env::args().skip(1) {
        let model = Model::load(&std::fs::read(&path)?, &Description::default())?;
        runners.push(model.runner()?);
    }
    let pixels = (WIDTH * HEIGHT) as usize;
    let noise: Vec<u8> = (0..pixels).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let (width, half) = (WIDTH as usize, WIDTH as usize / 2);
    let planes = Planes::new([&noise, &noise, &noise], (width, half, half), WIDTH, HEIGHT)?;
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let (only_prepare, index, runs) = match words.as_slice() {
            ["prepare", index, runs] => (true, *index, *runs),
            [index, runs] => (false, *index, *runs),
            _ => return Err("INDEX RUNS, or prepare INDEX RUNS".into()),
        };
        let runner = runners.get_mut(index.parse::<usize>()?).ok_or("no such model")?;
        let mut times = Vec::new();
        for _ in 0..runs.parse::<usize>()? {
            let began = cpu_time();
            if only_prepare {
                runner.prepare(&planes, None)?;
            } else {
                runner.run(&planes, None, 0.5)?;
            }
            times.push(cpu_time() - began);
        }
        times.sort();
        let median = times.get(times.len() / 2).ok_or("no runs")?;
        writeln!(out, "{}", median.as_secs_f64() * 1000.0)?;
        out.flush()?;
    }
    Ok(())
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or_default(), u32::try_from(time.tv_nsec).unwrap_or_default())
}
