//! `edgecam bench-model`: what a model costs on this machine.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use edgecam_vision::{Layout, Model, Operator, Planes, Runner, Task};
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;

use super::EXIT_CONFIG;
use super::output::{fail, say};
use super::picture::Given;

/// Operators in the profile; the rest is summed up.
const SHOWN: usize = 8;
/// Depthwise convolution is the library's weak spot; from this share on it is worth a word.
const DEPTHWISE_SHARE: f64 = 0.35;

#[derive(Args)]
pub(super) struct Arguments {
    /// An ONNX file. Without it: the built-in demonstration
    model: Option<PathBuf>,
    /// A YAML or JSON file that describes the model, where it does not do so itself
    #[arg(long, value_name = "FILE")]
    description: Option<PathBuf>,
    /// Pictures to measure with
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    runs: u32,
    /// Size of the pictures, as WIDTHxHEIGHT
    #[arg(long, default_value = "1280x720", value_parser = size)]
    size: (u32, u32),
    /// As JSON
    #[arg(long)]
    json: bool,
}

fn size(text: &str) -> Result<(u32, u32), String> {
    let side = |text: &str| text.parse().ok().filter(|side| (2..=8192).contains(side));
    let size = text.split_once('x').and_then(|(width, height)| Some((side(width)?, side(height)?)));
    size.ok_or_else(|| "WIDTHxHEIGHT, such as 1280x720; each at most 8192".to_owned())
}

pub(super) fn main(arguments: &Arguments) -> ExitCode {
    let given = Given::new(arguments.model.clone(), arguments.description.clone());
    let (bytes, description) = match given.read() {
        Ok(read) => read,
        Err(error) => return fail(EXIT_CONFIG, format_args!("{error}")),
    };
    let before = resident();
    let began = Instant::now();
    let model = match Model::load(&bytes, &description) {
        Ok(model) => model,
        Err(error) => return fail(EXIT_CONFIG, format_args!("{}: {error}", given.name())),
    };
    let load = began.elapsed();
    match measure(arguments, &model) {
        Ok(mut figures) => {
            figures.load = load;
            figures.memory = resident().zip(before).map(|(now, before)| now.saturating_sub(before));
            if arguments.json {
                print_json(&model, &figures)
            } else {
                print(&given.name(), &model, &figures)
            }
            ExitCode::SUCCESS
        }
        Err(error) => fail(1, format_args!("{}: {error}", given.name())),
    }
}

struct Figures {
    load: Duration,
    /// Medians: CPU time of the thread, and time by the clock.
    cpu: Duration,
    wall: Duration,
    /// Picture to tensor.
    prepare: Duration,
    /// Bytes that the process has more of.
    memory: Option<u64>,
    operators: Vec<Operator>,
}

/// What the process has in RAM, in bytes.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches("kB").trim().parse::<u64>().ok().map(|kib| kib << 10)
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or_default(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

fn measure(arguments: &Arguments, model: &Model) -> Result<Figures, String> {
    let (width, height) = arguments.size;
    let (pixels, stride) = ((width * height) as usize, width as usize);
    // Nothing is in it, and all is different: no shortcut is taken, and no box is found.
    let noise: Vec<u8> = (0..pixels).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let planes = Planes::new([&noise, &noise, &noise], (stride, stride, stride), width, height);
    let planes = planes.map_err(|error| error.to_string())?;
    let mut runner = model.runner().map_err(|error| error.to_string())?;
    let look = |runner: &mut Runner| runner.run(&planes, None, 0.5).map_err(|error| error.to_string());
    look(&mut runner)?;
    let (mut cpu, mut wall, mut prepare) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..arguments.runs {
        let (began, began_cpu) = (Instant::now(), cpu_time());
        look(&mut runner)?;
        cpu.push(cpu_time() - began_cpu);
        wall.push(began.elapsed());
        let began = cpu_time();
        runner.prepare(&planes, None).map_err(|error| error.to_string())?;
        prepare.push(cpu_time() - began);
    }
    let mut operators: Vec<Operator> = Vec::new();
    for _ in 0..arguments.runs.min(10) {
        let once = runner.profile(&planes, &mut cpu_time).map_err(|error| error.to_string())?;
        let is_better = operators.is_empty() || total(&once) < total(&operators);
        operators = if is_better { once } else { operators };
    }
    let (cpu, wall, prepare) = (median(cpu), median(wall), median(prepare));
    Ok(Figures { load: Duration::ZERO, cpu, wall, prepare, memory: None, operators })
}

fn total(operators: &[Operator]) -> Duration {
    operators.iter().map(|operator| operator.time).sum()
}

fn median(mut values: Vec<Duration>) -> Duration {
    values.sort();
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn share(operator: &Operator, operators: &[Operator]) -> f64 {
    operator.time.as_secs_f64() / total(operators).as_secs_f64().max(1e-9)
}

fn print(name: &str, model: &Model, figures: &Figures) {
    let input = model.input();
    say(format_args!("{name}: {}, layout {}", model.task().name(), layout(model)));
    say(format_args!("  input            {}x{} {:?}, {:?}", input.width, input.height, input.colours, input.fit));
    say(format_args!("  classes          {}", model.labels().len()));
    say(format_args!("  load             {:.0} ms", millis(figures.load)));
    say(format_args!(
        "  a picture        {:.1} ms of CPU, {:.1} ms by the clock (medians, one thread)",
        millis(figures.cpu),
        millis(figures.wall)
    ));
    say(format_args!(
        "    of which       {:.2} ms from the decoder's planes to the model's input",
        millis(figures.prepare)
    ));
    if let Some(memory) = figures.memory {
        say(format_args!("  memory           {:.1} MB", memory as f64 / 1e6));
    }
    say(format_args!("  where it goes"));
    for operator in figures.operators.iter().take(SHOWN) {
        let share = share(operator, &figures.operators) * 100.0;
        say(format_args!(
            "    {share:>5.1} %  {:>8.2} ms  {} x {}",
            millis(operator.time),
            operator.count,
            operator.name
        ));
    }
    say(format_args!("  advice"));
    for line in advice(model, figures) {
        say(format_args!("    {line}"));
    }
}

fn print_json(model: &Model, figures: &Figures) {
    let operators = figures.operators.iter();
    let operators: Vec<_> = operators
        .map(|Operator { name, count, time }| json!({ "name": name, "count": count, "ms": millis(*time) }))
        .collect();
    let text = json!({
        "task": model.task().name(), "layout": layout(model), "is_cut": model.is_cut(),
        "width": model.input().width, "height": model.input().height,
        "load_ms": millis(figures.load), "cpu_ms": millis(figures.cpu), "wall_ms": millis(figures.wall),
        "prepare_ms": millis(figures.prepare), "memory_bytes": figures.memory, "operators": operators,
        "advice": advice(model, figures),
    });
    say(format_args!("{text}"));
}

fn layout(model: &Model) -> String {
    let cut = if model.is_cut() { " (its head is read by the agent)" } else { "" };
    format!("{:?}{cut}", model.layout())
}

fn advice(model: &Model, figures: &Figures) -> Vec<String> {
    let (input, mut lines) = (model.input(), Vec::new());
    let rate = 1.0 / figures.cpu.as_secs_f64().max(1e-6);
    lines.push(format!(
        "one core of this machine does {rate:.0} pictures a second; half a core for {:.0} cameras at 1 a second",
        (rate / 2.0).floor()
    ));
    if model.task() == Task::Detect && input.width.max(input.height) > 416 {
        lines.push(format!(
            "exported at 320x320 instead of {}x{} it takes about {:.0} ms, and misses what is smaller than a 30th of the picture",
            input.width,
            input.height,
            millis(figures.cpu) * 320.0 * 320.0 / f64::from(input.width * input.height)
        ));
    }
    if matches!(model.layout(), Layout::Yolo | Layout::YoloAnchors) && !model.is_cut() {
        lines.push(
            "its head is not one that the agent reads itself; a newer export of Ultralytics saves a third".to_owned(),
        );
    }
    if model.is_cut() && figures.operators.iter().any(|operator| operator.name.contains("Softmax")) {
        lines.push("there is attention in it (Softmax); YOLOv8n and YOLO26n at the same size may be faster".to_owned());
    }
    let depthwise = figures.operators.iter().filter(|operator| operator.name.contains("Depth"));
    let depthwise: f64 = depthwise.map(|operator| share(operator, &figures.operators)).sum();
    if depthwise > DEPTHWISE_SHARE {
        lines.push(format!(
            "{:.0} % is depthwise convolution, which the library is slow at; a model of plain convolutions with as many \
             operations is faster",
            depthwise * 100.0
        ));
    }
    lines.push("quantising it (int8) does not make it faster here; fps_limit, zones and a sub-stream do".to_owned());
    lines
}
