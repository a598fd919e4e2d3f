//! The figures: what each is called, what must be reached, what is aimed at, and how it follows from
//! runs of the lab.
//!
//! They are numbered as the project's list of goals is, and compared with `limit`, the raw POSTs that
//! this machine can do, or with P1: ratios travel between machines, rates do not. No process is
//! started here; `bench.rs` prints what comes out.

use std::fmt;

use anyhow::Result;
use serde_json::{Value, json};

use super::lab::Lab;

/// Takes a figure, and the runs that it needs unless they have been taken.
type Take = fn(&Lab) -> Result<Figure>;

/// How to take each figure, in the order of their numbers.
pub(super) const FIGURES: &[(&str, Take)] = &[
    ("limit", limit),
    ("P1", one_endpoint),
    ("P2", orders),
    ("P3", https),
    ("P4", postgres),
    ("P5", cpu),
    ("P6", end_to_end),
    ("P7", acknowledgement),
    ("P8", memory),
    ("P10", disk),
    ("P11", drain),
    ("P12", isolation),
    ("P13", fan_out),
    ("P14", pages),
    ("P15", start),
];

/// The figures that this command cannot take yet.
pub(super) const NOT_YET: &[(&str, &str)] = &[
    (
        "P9",
        "filling a store with 10 million events takes longer than this command may",
    ),
    (
        "P16",
        "two cores hold one node and its Postgres, so a second one would only share them",
    ),
];

/// What was measured and what is asked of it.
#[derive(Debug)]
pub(super) struct Figure {
    number: &'static str,
    name: &'static str,
    values: Vec<f64>,
    /// The values as people read them, with their units.
    shown: String,
    goal: Option<Goal>,
}

/// What must be reached and what is aimed at, a number for each value.
#[derive(Clone, Copy, Debug)]
struct Goal {
    better: Better,
    must: &'static [f64],
    aim: &'static [f64],
}

#[derive(Clone, Copy, Debug)]
enum Better {
    More,
    Less,
}

const fn at_least(must: &'static [f64], aim: &'static [f64]) -> Option<Goal> {
    Some(Goal {
        better: Better::More,
        must,
        aim,
    })
}

const fn at_most(must: &'static [f64], aim: &'static [f64]) -> Option<Goal> {
    Some(Goal {
        better: Better::Less,
        must,
        aim,
    })
}

fn limit(lab: &Lab) -> Result<Figure> {
    let rate = lab.limit_per_second()?;
    Ok(Figure {
        number: "limit",
        name: "raw POSTs/s of 2 KB",
        values: vec![rate],
        shown: format!("{}/s", thousands(rate)),
        goal: None,
    })
}

fn one_endpoint(lab: &Lab) -> Result<Figure> {
    let rate = delivered(&lab.one_endpoint()?)?;
    Ok(Figure {
        number: "P1",
        name: "delivered/s, one endpoint",
        goal: at_least(&[0.11], &[0.22]),
        ..share_of_limit(lab, rate)?
    })
}

fn orders(lab: &Lab) -> Result<Figure> {
    let rate = delivered(&lab.orders()?)?;
    Ok(Figure {
        number: "P2",
        name: "delivered/s, payments of orders",
        goal: at_least(&[0.06], &[0.12]),
        ..share_of_limit(lab, rate)?
    })
}

fn https(lab: &Lab) -> Result<Figure> {
    let rate = delivered(&lab.https()?)?;
    Ok(Figure {
        number: "P3",
        name: "delivered/s, HTTPS receiver",
        goal: at_least(&[0.6], &[0.8]),
        ..share_of_p1(lab, rate)?
    })
}

fn cpu(lab: &Lab) -> Result<Figure> {
    let seconds = number(&lab.one_endpoint()?, "/procs/server/cpu_s_per_1000")?;
    Ok(Figure {
        number: "P5",
        name: "CPU of 1,000 deliveries",
        values: vec![seconds],
        shown: format!("{seconds:.3} s"),
        goal: at_most(&[0.12], &[0.06]),
    })
}

fn end_to_end(lab: &Lab) -> Result<Figure> {
    let run = lab.open_loop()?;
    let values = vec![number(&run, "/e2e_ms/p50")?, number(&run, "/e2e_ms/p99")?];
    Ok(Figure {
        number: "P6",
        name: "end to end at 200/s",
        shown: format!("p50 {:.2} ms, p99 {:.2} ms", values[0], values[1]),
        values,
        goal: at_most(&[1.5, 5.0], &[0.8, 2.5]),
    })
}

fn acknowledgement(lab: &Lab) -> Result<Figure> {
    let p99 = number(&lab.open_loop()?, "/publish_ms/p99")?;
    Ok(Figure {
        number: "P7",
        name: "acknowledgement at 200/s",
        values: vec![p99],
        shown: format!("p99 {p99:.2} ms"),
        goal: at_most(&[3.0], &[1.5]),
    })
}

fn memory(lab: &Lab) -> Result<Figure> {
    let run = lab.one_endpoint()?;
    let idle = number(&run, "/procs/server/rss_start_mb")?;
    let peak = number(&run, "/procs/server/rss_peak_mb")?;
    let waiting = number(&lab.waiting()?, "/procs/server/rss_end_mb")?;
    Ok(Figure {
        number: "P8",
        name: "memory idle/under P1/1M waiting",
        values: vec![idle, peak, waiting],
        shown: format!("{idle:.0}/{peak:.0}/{waiting:.0} MB"),
        goal: at_most(&[30.0, 150.0, 200.0], &[20.0, 80.0, 100.0]),
    })
}

fn disk(lab: &Lab) -> Result<Figure> {
    let per_event =
        |run: &Value| anyhow::Ok(number(run, "/store_bytes")? / number(run, "/distinct")?);
    let (bytes, noise) = (per_event(&lab.one_endpoint()?)?, per_event(&lab.noise()?)?);
    Ok(Figure {
        number: "P10",
        name: "bytes on disk per event",
        values: vec![bytes],
        shown: format!("{}, of noise {}", thousands(bytes), thousands(noise)),
        goal: at_most(&[1500.0], &[800.0]),
    })
}

fn drain(lab: &Lab) -> Result<Figure> {
    let rate = delivered(&lab.drain()?)?;
    Ok(Figure {
        number: "P11",
        name: "drain/s after a pause",
        goal: at_least(&[0.6], &[0.8]),
        ..share_of_p1(lab, rate)?
    })
}

fn isolation(lab: &Lab) -> Result<Figure> {
    let beside = number(&lab.beside_poison()?, "/e2e_ms/p99")?;
    let alone = number(&lab.open_loop()?, "/e2e_ms/p99")?;
    let ratio = beside / alone;
    Ok(Figure {
        number: "P12",
        name: "p99 beside 1,000 poisoned",
        values: vec![ratio],
        shown: format!("{ratio:.3} of alone, {beside:.2} ms"),
        goal: at_most(&[2.0], &[1.2]),
    })
}

fn fan_out(lab: &Lab) -> Result<Figure> {
    let rate = delivered(&lab.fan_out()?)?;
    Ok(Figure {
        number: "P13",
        name: "delivered/s, ten endpoints",
        goal: at_least(&[1.2], &[2.0]),
        ..share_of_p1(lab, rate)?
    })
}

fn postgres(lab: &Lab) -> Result<Figure> {
    let rate = delivered(&lab.postgres()?)?;
    Ok(Figure {
        number: "P4",
        name: "delivered/s, on Postgres",
        goal: at_least(&[0.05], &[0.1]),
        ..share_of_limit(lab, rate)?
    })
}

fn pages(lab: &Lab) -> Result<Figure> {
    let run = lab.waiting()?;
    let p99 = number(&run, "/pages/worst_p99_ms")?;
    let slowest = run.pointer("/pages/worst").and_then(Value::as_str);
    let slowest = slowest.and_then(|path| path.split('/').nth(4));
    let slowest = slowest.unwrap_or("overview");
    Ok(Figure {
        number: "P14",
        name: "slowest page, 1M events",
        values: vec![p99],
        shown: format!("p99 {p99:.1} ms, {slowest}"),
        goal: at_most(&[100.0], &[30.0]),
    })
}

fn start(lab: &Lab) -> Result<Figure> {
    let seconds = number(&lab.waiting()?, "/first_attempt_s")?;
    Ok(Figure {
        number: "P15",
        name: "start to attempt, 1M waiting",
        values: vec![seconds],
        shown: format!("{seconds:.3} s"),
        goal: at_most(&[5.0], &[1.0]),
    })
}

fn share_of_limit(lab: &Lab, rate: f64) -> Result<Figure> {
    Ok(share(rate, lab.limit_per_second()?, "limit"))
}

fn share_of_p1(lab: &Lab, rate: f64) -> Result<Figure> {
    Ok(share(rate, delivered(&lab.one_endpoint()?)?, "P1"))
}

/// A figure that is a rate against another, still without a name or a goal.
fn share(rate: f64, whole: f64, whole_name: &str) -> Figure {
    let share = rate / whole;
    Figure {
        number: "",
        name: "",
        values: vec![share],
        shown: format!("{share:.3} of {whole_name}, {}/s", thousands(rate)),
        goal: None,
    }
}

fn delivered(run: &Value) -> Result<f64> {
    number(run, "/delivered_per_s")
}

/// A number of a run, by its JSON pointer.
pub(super) fn number(run: &Value, pointer: &str) -> Result<f64> {
    let number = run.pointer(pointer).and_then(Value::as_f64);
    number.ok_or_else(|| anyhow::anyhow!("the harness gave no number at {pointer}"))
}

/// A whole number with commas.
fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

impl Figure {
    pub(super) fn json(&self) -> Value {
        json!({
            "number": self.number,
            "name": self.name,
            "values": self.values,
            "shown": self.shown,
            "must": self.goal.map(|goal| goal.must),
            "aim": self.goal.map(|goal| goal.aim),
            "reached": self.reached(),
        })
    }

    /// `aim`, `must` or `neither`.
    fn reached(&self) -> Option<&'static str> {
        let Goal { better, must, aim } = self.goal?;
        let all = |bounds: &[f64]| {
            let mut pairs = self.values.iter().zip(bounds);
            pairs.all(|(value, bound)| match better {
                Better::More => value >= bound,
                Better::Less => value <= bound,
            })
        };
        Some(match (all(aim), all(must)) {
            (true, _) => "aim",
            (false, true) => "must",
            (false, false) => "neither",
        })
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            number,
            name,
            shown,
            ..
        } = self;
        let Some(goal) = self.goal else {
            return write!(f, "{number:<6}{name:<33}{shown}");
        };
        let bounds = |bounds: &[f64]| {
            let bounds: Vec<_> = bounds.iter().map(ToString::to_string).collect();
            bounds.join("/")
        };
        let (must, aim) = (bounds(goal.must), bounds(goal.aim));
        write!(
            f,
            "{number:<6}{name:<33}{shown:<39}must {must:<10}  aim {aim}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_a_line() {
        let p1 = Figure {
            number: "P1",
            name: "delivered/s, one endpoint",
            goal: at_least(&[0.11], &[0.22]),
            ..share(13_100.0, 91_600.0, "limit")
        };
        let p8 = Figure {
            number: "P8",
            name: "memory idle/under P1/1M waiting",
            values: vec![12.0, 151.0, 90.0],
            shown: "12/151/90 MB".to_owned(),
            goal: at_most(&[30.0, 150.0, 200.0], &[20.0, 80.0, 100.0]),
        };
        let lines: Vec<_> = [p1, p8]
            .iter()
            .map(|figure| format!("{figure}  -> {}", figure.reached().unwrap()))
            .collect();
        insta::assert_snapshot!(lines.join("\n"), @r"
        P1    delivered/s, one endpoint        0.143 of limit, 13,100/s               must 0.11        aim 0.22  -> must
        P8    memory idle/under P1/1M waiting  12/151/90 MB                           must 30/150/200  aim 20/80/100  -> neither
        ");
    }

    #[test]
    fn rates_have_commas() {
        let shown = [0.4, 999.0, 1000.0, 91_600.4, 1_234_567.0].map(thousands);
        assert_eq!(shown, ["0", "999", "1,000", "91,600", "1,234,567"]);
    }
}
