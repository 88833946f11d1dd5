//! `farebox pay`

use std::error::Error;
use std::io::Write;

use bitcoin::consensus::encode::serialize_hex;
use clap::Args;
use farebox_channel::message::StateName;
use farebox_channel::{Kind, Msat, Sat, Seconds};
use farebox_client::{Event, Observer, PayError, PayingClient, Policy};
use reqwest::header::{HeaderName, HeaderValue};
use reqwest::{Method, Request, Response, StatusCode, Url};

use super::funds::{Node, PayerArguments};
use super::node::FileArguments;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// What to ask for
    url: Url,
    /// The method
    #[arg(short = 'X', long, value_name = "METHOD", default_value = "GET")]
    request: Method,
    /// A field of the request, as "Name: value"
    #[arg(short = 'H', long, value_name = "FIELD", value_parser = header)]
    header: Vec<(HeaderName, HeaderValue)>,
    /// The body of the request
    #[arg(short, long, value_name = "BODY")]
    data: Option<String>,
    /// The kind of contract for a new channel: refund or cltv
    #[arg(long, default_value = "cltv")]
    kind: Kind,
    /// What a new channel locks [default: the least that is offered]
    #[arg(long, value_name = "SAT", value_parser = sat)]
    capacity: Option<Sat>,
    /// How long it is locked at most if the gateway vanishes [default: the shortest offered]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    lifetime: Option<Seconds>,
    /// The most to pay for this request
    #[arg(long, value_name = "SAT", value_parser = sat, default_value = "1000")]
    max_price: Sat,
    /// The most that an answer may cost which is charged while it passes
    #[arg(long, value_name = "SAT", value_parser = sat, default_value = "5000")]
    max_answer: Sat,
    /// Print the signed refund of a new channel before its contract is shown
    #[arg(long)]
    print_refund: bool,
    /// Close the channel afterwards
    #[arg(long)]
    close: bool,
    #[command(flatten)]
    payer: PayerArguments,
    #[command(flatten)]
    file: FileArguments,
}

fn header(field: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = field.split_once(':').ok_or("a field is \"Name: value\"")?;
    let name = name.trim().parse().map_err(|_| format!("`{name}` is no field name"))?;
    let value = value.trim().parse().map_err(|_| format!("`{value}` is no field value"))?;
    Ok((name, value))
}

pub(super) fn sat(number: &str) -> Result<Sat, String> {
    let number = number.parse().map_err(|_| "a whole number of satoshi".to_owned())?;
    Sat::new(number).map_err(|error| error.to_string())
}

fn seconds(number: &str) -> Result<Seconds, String> {
    let number = number.parse().map_err(|_| "a whole number of seconds".to_owned())?;
    Ok(Seconds::new(number))
}

pub(super) async fn run(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    let file = arguments.file.open()?;
    let mut policy = Policy::new(arguments.kind);
    policy.capacity = arguments.capacity;
    policy.capacity_max = arguments.capacity.unwrap_or(policy.capacity_max);
    policy.lifetime = arguments.lifetime;
    policy.lifetime_max = arguments.lifetime.unwrap_or(policy.lifetime_max);
    policy.price_max = arguments.max_price.to_msat();
    policy.answer_max = arguments.max_answer.to_msat();
    let print_refund = arguments.print_refund;
    let node = arguments.payer.node(&file).await?;
    let client = PayingClient::new(node, file, policy)?
        .observed_by(Observer::new(move |event| tell(event, print_refund)));
    let mut request = Request::new(arguments.request, arguments.url.clone());
    request.headers_mut().extend(arguments.header);
    *request.body_mut() = arguments.data.map(Into::into);
    let paid = pay(&client, request, arguments.close).await;
    // What has expired comes back on the way, also where the gateway is gone.
    if let Err(error) = client.refund_due().await {
        eprintln!("farebox: what has expired was not looked for: {error}");
    }
    let status = paid?;
    if status.is_client_error() || status.is_server_error() {
        return Err(format!("the service answered {status}").into());
    }
    Ok(())
}

/// Pays for a request and writes its answer to the standard output. Returns its status.
async fn pay(
    client: &PayingClient<Node>,
    request: Request,
    closes: bool,
) -> Result<StatusCode, Box<dyn Error>> {
    let url = request.url().clone();
    let mut answer = client.execute(request).await?;
    let status = answer.status();
    let passed = pass_on(&mut answer).await;
    drop(answer);
    passed?;
    if closes {
        client.close(url.as_str()).await?;
    }
    Ok(status)
}

/// Writes an answer to the standard output as it comes.
async fn pass_on(answer: &mut Response) -> Result<(), Box<dyn Error>> {
    loop {
        let chunk = match answer.chunk().await {
            Ok(Some(chunk)) => chunk,
            Ok(None) => return Ok(()),
            Err(error) => {
                let reason = PayError::of(&error).map(ToString::to_string);
                return Err(reason.map_or_else(|| error.into(), Into::into));
            }
        };
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(&chunk)?;
        stdout.flush()?;
    }
}

/// Tells a person what happens to the money.
fn tell(event: &Event, print_refund: bool) {
    match event {
        Event::Offered(offer) => eprintln!("farebox: this costs {}", offer.price),
        Event::Agreed { terms, capacity, first_payment } => {
            let (kind, expiry) = (terms.kind, terms.expiry.get());
            eprintln!(
                "farebox: a channel of kind `{kind}` locks {capacity} at {}",
                terms.address()
            );
            eprintln!("farebox: until {expiry} at the latest; at least {first_payment} are paid");
        }
        Event::Asked(_, amount) => eprintln!("farebox: waiting until {amount} were paid"),
        Event::Funded(outpoint) => eprintln!("farebox: contract {outpoint}, not shown yet"),
        Event::RefundHeld(refund) => {
            let time = refund.lock_time.to_consensus_u32();
            eprintln!("farebox: the refund is held, valid after {time}");
            if print_refund {
                eprintln!("{}", serialize_hex(refund));
            }
        }
        Event::Exported(file) => {
            eprintln!("farebox: {} gets the coins back with a node alone", file.display());
        }
        Event::Shown(_, StateName::Pending) => {
            eprintln!("farebox: waiting for the contract's confirmations");
        }
        Event::Confirmed(..) => {}
        Event::Shown(_, state) => eprintln!("farebox: the channel is {state}"),
        Event::Paid(receipt) if receipt.is_running => {
            eprintln!("farebox: the answer costs what passes, and {} at first", receipt.price);
        }
        Event::ToppedUp { amount, cost, .. } => {
            eprintln!("farebox: {cost} by now, so {amount} more are paid ahead");
        }
        Event::Paid(receipt) | Event::Ended(receipt) => {
            let left = Msat::to_sat_ceil(receipt.credit);
            eprintln!("farebox: paid {} · credit {left} · {} in all", receipt.price, receipt.paid);
        }
        Event::Resynchronised { channel, paid, spent } => {
            eprintln!("farebox: channel {channel} goes on with {paid} paid and {spent} spent");
        }
        Event::Refunding(channel, txid) => {
            eprintln!("farebox: channel {channel} has expired and is refunded with {txid}");
        }
        Event::Closing(channel, Some(txid)) => {
            eprintln!("farebox: channel {channel} is closing with {txid}");
        }
        Event::Closing(channel, None) => eprintln!("farebox: channel {channel} is closing"),
    }
}
