//! `farebox pay`

mod books;
mod consent;
mod dry_run;
mod outcome;
mod output;
mod request;
mod telling;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use farebox_channel::{Kind, Sat, Seconds};
use farebox_client::{ChannelFile, Observer, PayError, PayingClient, Policy};
use reqwest::{Request, Response, StatusCode};

use self::books::{Books, Cost};
use self::dry_run::Report;
use self::outcome::Outcome;
use self::output::{Output, OutputArguments};
use self::request::RequestArguments;
use self::telling::{Loudness, Telling};
use super::confirm::ConfirmArguments;
use super::exit::{self, Exit, Failure};
use super::funds::{Node, PayerArguments};
use super::limits::{LimitArguments, sat, seconds};
use super::node::FileArguments;
use super::span;

/// The examples in the help.
const EXAMPLES: &str = "\
Examples:
  farebox pay https://api.example.com/forecast --dry-run
  farebox pay https://api.example.com/forecast --max-price 25
  farebox pay https://api.example.com/ask -H 'Content-Type: application/json' -d @question.json
  farebox pay https://api.example.com/report -s -o report.pdf --yes --close
  farebox pay https://api.example.com/forecast --yes --json 2> paid.json
  farebox pay https://api.example.com/forecast --outside bc1q…";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{}", exit::TABLE))]
pub(super) struct Arguments {
    #[command(flatten)]
    request: RequestArguments,
    #[command(flatten)]
    output: OutputArguments,
    /// Say nothing but what goes wrong
    #[arg(short, long)]
    silent: bool,
    /// Say nothing but one JSON object in the end, on standard error
    ///
    /// It tells what the request has cost, the channel, and how it ended, and is the last line of
    /// standard error. With --dry-run it tells what that finds out, on standard output. (What curl calls
    /// --json is -d with -H 'Content-Type: application/json'.)
    #[arg(long)]
    json: bool,
    /// Ask for the price and the terms, and do nothing else
    ///
    /// Nothing is signed, locked or saved. What is free is done at once, so a request that may change
    /// something (POST, PUT, PATCH, DELETE) is sent only where the price list says that it is not free.
    /// Ends with the code with which the payment would fail, as far as that is known before: whether
    /// there are coins enough is not looked at.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    confirm: ConfirmArguments,
    /// The kind of contract for a new channel: refund or cltv
    #[arg(long, default_value = "cltv")]
    kind: Kind,
    /// What a new channel locks [default: the least that is offered and pays for the request]
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
    /// How long to wait until another wallet has paid, and for confirmations, like `30m` [default: 2h]
    #[arg(long, value_name = "SPAN", value_parser = span::parse)]
    max_wait: Option<u64>,
    /// Print the signed refund of a new channel before its contract is shown
    #[arg(long)]
    print_refund: bool,
    /// Close the channel afterwards
    #[arg(long)]
    close: bool,
    #[command(flatten)]
    limits: LimitArguments,
    #[command(flatten)]
    payer: PayerArguments,
    #[command(flatten)]
    file: FileArguments,
}

pub(super) async fn run(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    let loudness =
        if arguments.silent || arguments.json { Loudness::Silent } else { Loudness::Words };
    let telling = Arc::new(Telling::new(loudness, arguments.print_refund));
    let tried = tokio::select! {
        // Until something is waited for, Ctrl-C ends the program: a body may be read from a terminal.
        biased;
        tried = attempt(&arguments, &telling) => tried,
        () = super::stopped() => Err(stopped(&telling)),
    };
    telling.rest();
    telling.receipt();
    let is_told = arguments.dry_run && tried.as_ref().err().is_none_or(Failure::is_told);
    if is_told || !arguments.json {
        return tried.map_err(Into::into);
    }
    let (url, method) = (arguments.request.url(), arguments.request.method());
    let failure = tried.err();
    let outcome = Outcome::new(url, &method, &telling.account(), failure.as_ref());
    super::say(&serde_json::to_string(&outcome)?);
    failure.map_or(Ok(()), |failure| Err(failure.told().into()))
}

/// Says what is on record when the program is stopped in the middle.
fn stopped(telling: &Telling) -> Failure {
    let account = telling.account();
    let words = match (account.opened, account.receipt) {
        _ if account.has_asked && account.opened.is_none() => {
            "stopped: what was asked for is on record, and the same command looks for it"
        }
        (Some(_), None) => {
            "stopped: the contract is on record, and the same command goes on with it; `farebox \
             wallet refund` gets its coins back after its expiry"
        }
        (_, Some(_)) => "stopped: what was paid is on record, and the rest stays in the channel",
        (None, None) => {
            "stopped: what was signed is on record, and a request that was under way may have been \
             charged"
        }
    };
    Failure::new(Exit::Stopped, words)
}

/// Does what is asked for, and keeps what it comes to in `telling`.
async fn attempt(arguments: &Arguments, telling: &Arc<Telling>) -> Result<(), Failure> {
    let usage = |words: String| Failure::new(Exit::Usage, words);
    let mut request = arguments.request.build().map_err(usage)?;
    let file = arguments.file.open().map_err(|error| Failure::of(&*error))?;
    let client = client(arguments, telling, file).await.map_err(|error| Failure::of(&*error))?;
    let logged_in = arguments.request.log_in(client.http(), &mut request);
    logged_in.map_err(|error| Failure::of(&error))?;
    if arguments.dry_run {
        let method = request.method().clone();
        let quotation = client.quote(request).await.map_err(|error| Failure::of(&error))?;
        let report = Report::new(arguments.request.url(), &method, quotation);
        return report.print(arguments.json);
    }
    let output = arguments.output.open().map_err(usage)?;
    let books = Books::begin(client.file()).map_err(|error| Failure::of(&error))?;
    telling.account().books = Some(books);
    let paid = pay(&client, request, output, telling).await;
    if let Ok(Some(channel)) = client.channel(arguments.request.url()) {
        telling.account().channel = Some(channel);
    }
    let closed = match &paid {
        Ok(()) if arguments.close => match client.close(arguments.request.url().as_str()).await {
            // What was free has opened none.
            Ok(_) | Err(PayError::NoChannel(_)) => Ok(()),
            Err(error) => Err(error),
        },
        Ok(()) | Err(_) => Ok(()),
    };
    // What has expired comes back on the way, also where the gateway is gone.
    if let Err(error) = client.refund_due().await {
        telling.say(&format!("what has expired was not looked for: {error}"));
    }
    paid?;
    closed.map_err(|error| Failure::of(&error))?;
    let account = telling.account().clone();
    let may_be_charged = matches!(account.balance(), (Cost::Unknown(_), _));
    match account.status {
        // What may have been charged is not to be sent again without a thought.
        Some(status @ (StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE))
            if !may_be_charged =>
        {
            Err(Failure::new(Exit::NotYet, format!("not now: the service answered {status}")))
        }
        Some(status) if exit::is_failure(status) => {
            Err(Failure::new(Exit::Service, format!("the service answered {status}")))
        }
        Some(_) | None => Ok(()),
    }
}

/// Returns the client that pays as it is told.
async fn client(
    arguments: &Arguments,
    telling: &Arc<Telling>,
    file: ChannelFile,
) -> Result<PayingClient<Node>, Box<dyn Error>> {
    let mut policy = Policy::new(arguments.kind);
    policy.capacity = arguments.capacity;
    policy.capacity_max = arguments.capacity.unwrap_or(policy.capacity_max);
    policy.lifetime = arguments.lifetime;
    policy.lifetime_max = arguments.lifetime.unwrap_or(policy.lifetime_max);
    policy.price_max = arguments.max_price.to_msat();
    policy.answer_max = arguments.max_answer.to_msat();
    policy.patience = arguments.max_wait.map_or(policy.patience, Duration::from_secs);
    // This process may have ended before another channel is open.
    policy.renew_before = Seconds::new(0);
    arguments.limits.apply(&mut policy);
    let node = arguments.payer.node(&file).await?;
    let hearing = Arc::clone(telling);
    let client = PayingClient::new(node, file, policy)?
        .observed_by(Observer::new(move |event| hearing.hear(event)));
    // Whoever pays from a wallet elsewhere agrees by paying.
    let is_asked = !arguments.payer.is_outside();
    Ok(if is_asked {
        client.approved_by(consent::at_terminal(arguments.confirm, Arc::clone(telling)))
    } else {
        client
    })
}

/// Pays for a request and writes its answer as it comes.
async fn pay(
    client: &PayingClient<Node>,
    request: Request,
    output: Output,
    telling: &Telling,
) -> Result<(), Failure> {
    let mut answer = client.execute(request).await.map_err(|error| Failure::of(&error))?;
    telling.account().status = Some(answer.status());
    if !output.begin(&answer).await.map_err(unwritten)? {
        return Ok(());
    }
    let passed = pass_on(&mut answer, &output).await;
    drop(answer);
    let written = match passed {
        Ok(()) => output.finish().await.map_err(unwritten),
        Err(failure) => Err(failure),
    };
    written.map_err(|failure| match output.part() {
        Some(part) => failure.and(&format!("what has come of it is in {}", part.display())),
        None => failure,
    })
}

/// Says that an answer has no place to go.
fn unwritten(error: std::io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("the answer cannot be written: {error}"))
}

/// Writes an answer as it comes.
async fn pass_on(answer: &mut Response, output: &Output) -> Result<(), Failure> {
    loop {
        let chunk = match answer.chunk().await {
            Ok(Some(chunk)) => chunk,
            Ok(None) => return Ok(()),
            Err(error) => {
                return Err(match PayError::of(&error) {
                    Some(ours) => Failure::of(ours),
                    None => Failure::of(&PayError::from(error)),
                });
            }
        };
        output.write(chunk).await.map_err(unwritten)?;
    }
}
