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

/// How many different signatures, each of another key.
const SIGNATURES: u8 = 64;
/// How often all of them are verified in a round.
const REPEATS: u32 = 20;
/// How many rounds the median is of.
const ROUNDS: u32 = 15;

/// Returns the time of one verification in microseconds: the thread's own, with keys that are
/// parsed already, and as many threads at work as there are cores. Two of them may share a core's
/// units, and then each is slower than it would be alone.
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
    let signed: Vec<_> = (1..=SIGNATURES).map(signed).collect::<Result<_, _>>()?;
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let began = thread_time()?;
        for _ in 0..REPEATS {
            for (message, signature, key) in &signed {
                SECP256K1.verify_ecdsa(message, signature, key)?;
            }
        }
        let each = (thread_time()? - began) / REPEATS / u32::from(SIGNATURES);
        rounds.push(each.as_secs_f64() * 1e6);
    }
    Ok(rounds)
}

fn signed(number: u8) -> Result<(Message, Signature, PublicKey), secp256k1::Error> {
    let key = SecretKey::from_slice(&[number; 32])?;
    let message = Message::from_digest([!number; 32]);
    Ok((message, SECP256K1.sign_ecdsa(&message, &key), key.public_key(SECP256K1)))
}

/// Returns how long this thread has computed.
fn thread_time() -> Result<Duration, TryFromIntError> {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Ok(Duration::new(u64::try_from(time.tv_sec)?, u32::try_from(time.tv_nsec)?))
}
