//! A tap on the wire between a gateway and bitcoind, or a client and either: it sees each call, and can
//! hold it up there.
//!
//! It has threads of its own, so that it goes on while a test waits for a process to start.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;

use serde_json::Value;
use tokio::sync::watch;

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    /// It goes its way.
    Pass,
    /// The node does not get it.
    BeforeSending,
    /// The node gets it, and the caller does not get the answer.
    BeforeAnswering,
}

/// A proxy before a node. It ends with this value.
pub(crate) struct Tap {
    address: SocketAddr,
    wire: Arc<Wire>,
}

impl Tap {
    /// Listens in the place of the node at a URL such as `http://127.0.0.1:18443`.
    pub(crate) fn start(node_url: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let wire = Arc::new(Wire {
            node: node_url.strip_prefix("http://").unwrap().parse().unwrap(),
            state: Mutex::default(),
            released: Condvar::new(),
            held: watch::Sender::new(None),
        });
        let shared = Arc::clone(&wire);
        thread::spawn(move || {
            for caller in listener.incoming() {
                if shared.look().is_stopped {
                    return;
                }
                let (wire, caller) = (Arc::clone(&shared), caller.unwrap());
                // A caller that was killed breaks its connection off.
                thread::spawn(move || wire.serve(caller).unwrap_or_default());
            }
        });
        Self { address, wire }
    }

    /// Returns where it listens.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns its address and port.
    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    /// Returns the methods that were called so far, in their order, the held ones too.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.wire.look().calls.clone()
    }

    /// Asks of each call from now on whether it is held, by its method and by its number: the
    /// first call of all is 1. What was held before goes on.
    pub(crate) fn hold(&self, at: impl Fn(&str, usize) -> Hold + Send + 'static) {
        self.wire.rule(Some(Box::new(at)));
    }

    /// Waits until a call is held, and returns the method of the newest one.
    pub(crate) async fn held(&self) -> String {
        let mut held = self.wire.held.subscribe();
        let method = held.wait_for(Option::is_some).await.unwrap().clone();
        method.unwrap()
    }

    /// Lets everything go on. A call whose caller is gone by now never gets to the node, unless it
    /// was there already.
    pub(crate) fn release(&self) {
        self.wire.rule(None);
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.wire.look().is_stopped = true;
        self.release();
        // The listener has to wake up to see it.
        let _woken = TcpStream::connect(self.address);
    }
}

/// Says what becomes of a call.
type Rule = Box<dyn Fn(&str, usize) -> Hold + Send>;

/// What the threads share.
struct Wire {
    node: SocketAddr,
    state: Mutex<State>,
    released: Condvar,
    /// The method of the call that was held last.
    held: watch::Sender<Option<String>>,
}

#[derive(Default)]
struct State {
    calls: Vec<String>,
    rule: Option<Rule>,
    /// How often the rule has changed: each change lets go of what the one before has held.
    rules: usize,
    is_stopped: bool,
}

impl Wire {
    fn look(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn rule(&self, rule: Option<Rule>) {
        let mut state = self.look();
        state.rule = rule;
        state.rules += 1;
        self.held.send_replace(None);
        drop(state);
        self.released.notify_all();
    }

    /// Passes calls on until the caller hangs up.
    fn serve(&self, caller: TcpStream) -> io::Result<()> {
        let mut caller = BufReader::new(caller);
        let mut node = None;
        while let Some(request) = read_message(&mut caller)? {
            let method = method(&request);
            let (hold, rules) = self.note(&method);
            if hold == Hold::BeforeSending {
                self.wait(&method, rules);
                if is_gone(caller.get_ref())? {
                    return Ok(());
                }
            }
            let node = match &mut node {
                Some(node) => node,
                none => none.insert(BufReader::new(TcpStream::connect(self.node)?)),
            };
            node.get_mut().write_all(&request.concat())?;
            let answer = read_message(node)?.ok_or(io::ErrorKind::UnexpectedEof)?;
            if hold == Hold::BeforeAnswering {
                self.wait(&method, rules);
            }
            caller.get_mut().write_all(&answer.concat())?;
        }
        Ok(())
    }

    /// Notes a call, and returns what becomes of it by which rule.
    fn note(&self, method: &str) -> (Hold, usize) {
        let mut state = self.look();
        state.calls.push(method.to_owned());
        let hold = state.rule.as_ref().map_or(Hold::Pass, |at| at(method, state.calls.len()));
        (hold, state.rules)
    }

    /// Says that a call is held, and waits until the rule that holds it is gone.
    fn wait(&self, method: &str, rules: usize) {
        let state = self.look();
        if state.rules == rules {
            self.held.send_replace(Some(method.to_owned()));
        }
        drop(self.released.wait_while(state, |state| state.rules == rules).unwrap());
    }
}

/// Reads a message's head and body, unless there is no more.
fn read_message(from: &mut BufReader<TcpStream>) -> io::Result<Option<[Vec<u8>; 2]>> {
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let begun = head.len();
        if from.read_line(&mut head)? == 0 {
            return Ok(None);
        }
        let line = head[begun..].trim().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().map_err(io::Error::other)?;
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;
    Ok(Some([head.into_bytes(), body]))
}

/// Returns the method that a request calls.
fn method([_, body]: &[Vec<u8>; 2]) -> String {
    let call: Value = serde_json::from_slice(body).unwrap_or_default();
    call["method"].as_str().unwrap_or("no method").to_owned()
}

/// Tells whether the other side has hung up.
fn is_gone(stream: &TcpStream) -> io::Result<bool> {
    stream.set_nonblocking(true)?;
    let seen = stream.peek(&mut [0]);
    stream.set_nonblocking(false)?;
    Ok(match seen {
        Ok(bytes) => bytes == 0,
        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
    })
}
