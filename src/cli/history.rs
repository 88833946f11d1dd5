//! `farebox wallet history`

use std::error::Error;
use std::io::{self, BufWriter, Write};

use clap::{Args, ValueEnum};
use farebox_channel::{Msat, Timestamp};
use farebox_client::{ChannelFile, Purchase};
use serde::Serialize;

use super::span;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// How to write it: as CSV with a head (RFC 4180), or as a JSON array
    #[arg(long, value_name = "FORMAT", default_value = "csv")]
    format: Format,
    /// Only what was paid since then: so long ago, like `12h` or `30d`
    #[arg(long, value_name = "SPAN", value_parser = span::parse)]
    since: Option<u64>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Csv,
    Json,
}

/// The names of the columns, in the order of [`Line`].
const HEAD: [&str; 8] =
    ["time", "server", "method", "path", "channel", "price_msat", "cost_msat", "end"];

/// A row as it is written.
#[derive(Serialize)]
struct Line<'a> {
    time: u64,
    server: &'a str,
    method: &'a str,
    path: &'a str,
    channel: String,
    price_msat: u64,
    cost_msat: Option<u64>,
    end: &'static str,
}

pub(super) fn run(arguments: &Arguments, file: &ChannelFile) -> Result<(), Box<dyn Error>> {
    let since = arguments.since.map_or(0, |since| span::now().saturating_sub(since));
    let history = file.history(Timestamp::new(since))?;
    let lines = history.iter().map(line);
    let mut output = BufWriter::new(io::stdout().lock());
    match arguments.format {
        Format::Csv => write_csv(&mut output, lines)?,
        Format::Json => {
            serde_json::to_writer_pretty(&mut output, &lines.collect::<Vec<_>>())?;
            writeln!(output)?;
        }
    }
    Ok(output.flush()?)
}

fn line(purchase: &Purchase) -> Line<'_> {
    let Purchase { time, origin, method, path, channel, price, cost } = purchase;
    Line {
        time: time.get(),
        server: origin,
        method,
        path,
        channel: channel.to_string(),
        price_msat: price.get(),
        cost_msat: cost.map(Msat::get),
        end: if cost.is_some() { "paid" } else { "unknown" },
    }
}

fn write_csv<'a>(output: &mut impl Write, lines: impl Iterator<Item = Line<'a>>) -> io::Result<()> {
    write!(output, "{}\r\n", HEAD.join(","))?;
    for line in lines {
        let Line { time, server, method, path, channel, price_msat, cost_msat, end } = line;
        let (server, method, path) = (quoted(server), quoted(method), quoted(path));
        let cost = cost_msat.map(|cost| cost.to_string()).unwrap_or_default();
        write!(output, "{time},{server},{method},{path},{channel},{price_msat},{cost},{end}\r\n")?;
    }
    Ok(())
}

/// Returns a field of CSV, quoted where that is needed (RFC 4180 §2).
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\r', '\n']) {
        return format!("\"{}\"", text.replace('"', "\"\""));
    }
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_with_a_comma_or_a_quote_is_quoted_and_a_cost_that_is_not_known_is_empty() {
        let line = Line {
            time: 7,
            server: "https://a/",
            method: "GET",
            path: "/a,b\"c",
            channel: "00:1".to_owned(),
            price_msat: 1_500,
            cost_msat: None,
            end: "unknown",
        };
        let mut written = Vec::new();

        write_csv(&mut written, [line].into_iter()).unwrap();

        let expected = "time,server,method,path,channel,price_msat,cost_msat,end\r\n\
                        7,https://a/,GET,\"/a,b\"\"c\",00:1,1500,,unknown\r\n";
        assert_eq!(String::from_utf8(written).unwrap(), expected);
    }
}
