//! Answers that are handed over to one runtime together.
//!
//! To wake a task of another thread costs a system call, and a thread that is woken for each answer
//! of a commit goes back to sleep as often. So the writer puts all answers of a commit in the post,
//! and wakes one task, which wakes the others on its own thread.

use std::fmt;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

use crate::order::Answer;

/// Hands the answers of each commit over to one runtime. Clones are the same post.
#[derive(Clone, Default)]
pub struct Post(Arc<Bag>);

#[derive(Default)]
struct Bag {
    letters: Mutex<Letters>,
    has_come: Notify,
}

#[derive(Default)]
struct Letters {
    waiting: Vec<(oneshot::Sender<Answer>, Answer)>,
    /// Whether somebody carries them.
    is_carried: bool,
}

impl Post {
    /// Makes a post that nobody carries yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Hands answers over, for as long as it is polled. It is a task of the runtime whose tasks wait
    /// for them.
    pub async fn carry(self) {
        let round = Round(self);
        let mut letters = Vec::new();
        loop {
            round.0.take(&mut letters);
            for (reply, answer) in letters.drain(..) {
                // Whoever has stopped waiting will find the outcome on record.
                let _gone = reply.send(answer);
            }
            round.0.0.has_come.notified().await;
        }
    }

    /// Takes what was posted, and leaves the room that was made for it before.
    fn take(&self, letters: &mut Vec<(oneshot::Sender<Answer>, Answer)>) {
        let mut bag = self.lock();
        bag.is_carried = true;
        mem::swap(&mut bag.waiting, letters);
    }

    /// Posts an answer. It is on its way after [`Post::send`].
    pub(crate) fn put(&self, reply: oneshot::Sender<Answer>, answer: Answer) {
        let mut letters = self.lock();
        if letters.is_carried {
            letters.waiting.push((reply, answer));
            return;
        }
        drop(letters);
        let _gone = reply.send(answer);
    }

    /// Sends what was posted.
    pub(crate) fn send(&self) {
        self.0.has_come.notify_one();
    }

    /// Tells whether this is the same post as another one.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    fn lock(&self) -> MutexGuard<'_, Letters> {
        self.0.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Post {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Post").finish_non_exhaustive()
    }
}

/// Sees to it that nothing is left in the post when nobody carries it any more.
struct Round(Post);

impl Drop for Round {
    fn drop(&mut self) {
        let mut letters = self.0.lock();
        letters.is_carried = false;
        let waiting = mem::take(&mut letters.waiting);
        drop(letters);
        for (reply, answer) in waiting {
            let _gone = reply.send(answer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::Done;

    #[tokio::test]
    async fn answers_come_with_the_post_and_not_before_it_is_sent() {
        let post = Post::new();
        let carrying = tokio::spawn(post.clone().carry());
        while !post.lock().is_carried {
            tokio::task::yield_now().await;
        }
        let (reply, mut answer) = oneshot::channel();

        post.put(reply, Ok(Done::All));
        tokio::task::yield_now().await;
        assert!(answer.try_recv().is_err());
        post.send();

        assert!(matches!(answer.await, Ok(Ok(Done::All))));
        carrying.abort();
    }

    #[tokio::test]
    async fn no_answer_is_lost_when_nobody_carries_the_post() {
        let post = Post::new();
        let (reply, answer) = oneshot::channel();
        post.put(reply, Ok(Done::All));
        assert!(answer.await.is_ok(), "nobody has carried it yet");

        let carrying = tokio::spawn(post.clone().carry());
        while !post.lock().is_carried {
            tokio::task::yield_now().await;
        }
        let (reply, answer) = oneshot::channel();
        post.put(reply, Ok(Done::All));
        carrying.abort();
        assert!(answer.await.is_ok(), "it was not sent");
    }
}
