//! What the bare verification of a signature costs while all cores verify, as a gateway's do.

use std::error::Error;
use std::num::TryFromIntError;
use std::thread;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use secp256k1::ecdsa::Signature;
use secp256k1::{Message, PublicKey, SECP256K1, SecretKey};

use crate::Outcome;
use crate::report::median;

/// How many keys, each with signatures of its own.
const KEYS: u8 = 64;
/// How many signatures of each key are verified in a round.
const SIGNATURES: u8 = 20;
/// How many rounds the median is of.
const ROUNDS: u8 = 15;

/// Returns the time of one verification in microseconds: the thread's own, with keys that are
/// parsed already, and as many threads at work as there are cores. Two of them may share a core's
/// units, and then each is slower than it would be alone. Each signature is verified once, as a payment
/// is: what a processor has seen before it computes faster.
pub(crate) fn verify_us() -> Outcome<f64> {
    let cores = thread::available_parallelism()?.get();
    thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(rounds)).collect();
        let mut all = Vec::new();
        for thread in threads {
            let rounds = thread.join().map_err(|_| "a thread that verifies has panicked")?;
            all.extend(rounds.map_err(|error| error as Box<dyn Error>)?);
        }
        Ok(median(all))
    })
}

/// Measures some rounds on one thread.
fn rounds() -> Result<Vec<f64>, Box<dyn Error + Send + Sync>> {
    let keys = (1..=KEYS).map(|number| SecretKey::from_slice(&[number; 32]));
    let keys = keys.collect::<Result<Vec<_>, _>>()?;
    let mut rounds = Vec::new();
    for round in 0..ROUNDS {
        let signed: Vec<_> = (0..SIGNATURES)
            .flat_map(|number| keys.iter().map(move |key| signed(key, round, number)))
            .collect();
        let began = thread_time()?;
        for (message, signature, key) in &signed {
            SECP256K1.verify_ecdsa(message, signature, key)?;
        }
        let each = (thread_time()? - began) / u32::from(KEYS) / u32::from(SIGNATURES);
        rounds.push(each.as_secs_f64() * 1e6);
    }
    Ok(rounds)
}

/// Signs what no other round has signed.
fn signed(key: &SecretKey, round: u8, number: u8) -> (Message, Signature, PublicKey) {
    let mut digest = [round; 32];
    digest[0] = number;
    let message = Message::from_digest(digest);
    (message, SECP256K1.sign_ecdsa(&message, key), key.public_key(SECP256K1))
}

/// Returns how long this thread has computed.
fn thread_time() -> Result<Duration, TryFromIntError> {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Ok(Duration::new(u64::try_from(time.tv_sec)?, u32::try_from(time.tv_nsec)?))
}
