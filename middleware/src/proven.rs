//! The cashier's part for whoever proves that a channel's key is theirs: what is on record, and the
//! close.

use bitcoin::OutPoint;
use farebox_channel::gateway::{Channel, Input, Refusal};
use farebox_channel::message::{
    ChannelStatus, CloseRequest, StateReply, StatusReply, StatusRequest, StatusSubject,
};
use farebox_channel::{Place, Proof, ProofError, Subject};
use farebox_ledger::LedgerError;
use secp256k1::PublicKey;

use crate::cashier::Cashier;
use crate::node::Node;
use crate::problem::{Problem, ProblemKind};

/// The greatest number of channels in one answer, so that the field stays under its limit.
const STATUS_CHANNELS_MAX: usize = 10;

impl<N: Node> Cashier<N> {
    /// Tells a client what is on record of its channels.
    pub(crate) fn status(&self, request: &StatusRequest) -> Result<StatusReply, Problem> {
        let StatusRequest { subject, proof } = request;
        let channels = match subject {
            StatusSubject::Key(key) => {
                self.check_proof(proof, &subject.proven(), key)?;
                self.ledger.channels_of(key)
            }
            StatusSubject::Channel(outpoint) => {
                vec![self.proven_channel(proof, &subject.proven(), *outpoint)?]
            }
        };
        let mut channels: Vec<_> = channels.iter().map(|channel| self.told(channel)).collect();
        channels.sort_by_key(|channel| std::cmp::Reverse(channel.expiry));
        channels.truncate(STATUS_CHANNELS_MAX);
        Ok(StatusReply { channels })
    }

    /// Closes a channel for its client's final payment. Closing twice is harmless.
    pub(crate) async fn close(&self, request: &CloseRequest) -> Result<StateReply, Problem> {
        let CloseRequest { channel: outpoint, ref proof, payment } = *request;
        let channel = self.proven_channel(proof, &Subject::Close(outpoint), outpoint)?;
        match channel {
            Channel::Closing(_) | Channel::Ended(_) => {}
            Channel::Pending(_) | Channel::Late(_) | Channel::Open(_) => {
                let payment = payment.verify(channel.contract()).map_err(Refusal::from)?;
                let close = Input::Close(payment);
                match self.ledger.apply(outpoint, self.clock(), close).await {
                    // Another close may have been quicker.
                    Ok(_) | Err(LedgerError::Refused(Refusal::Closing | Refusal::Ended)) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        self.desk.node.attend(outpoint).await;
        self.state(outpoint)
    }

    /// Returns the channel that a proof is about.
    ///
    /// An unknown channel and a foreign one get the same answer for the same work.
    fn proven_channel(
        &self,
        proof: &Proof,
        subject: &Subject,
        outpoint: OutPoint,
    ) -> Result<Channel, Problem> {
        match self.ledger.channel(outpoint) {
            Some(channel) => {
                self.check_proof(proof, subject, &channel.contract().terms.client_key)?;
                Ok(channel)
            }
            None => {
                let nobody = self.desk.gateway.decoy_key();
                self.check_proof(proof, subject, &nobody)?;
                Err(Refusal::UnknownChannel.into()) // nobody signs for that key
            }
        }
    }

    fn check_proof(
        &self,
        proof: &Proof,
        subject: &Subject,
        key: &PublicKey,
    ) -> Result<(), Problem> {
        let network = self.desk.gateway.network();
        let wall = self.clock().wall;
        let verify = |host: &String| proof.verify(subject, Place { network, host }, wall, key);
        let mut refused = ProofError::BadSignature;
        for host in &self.desk.hosts {
            match verify(host) {
                Ok(()) => return Ok(()),
                Err(error) => refused = error,
            }
        }
        let detail =
            format!("{refused}; proofs for this gateway name {}", self.desk.hosts.join(" or "));
        Err(Problem::new(ProblemKind::WrongProof, detail))
    }

    /// Returns what is told of a channel to its client.
    fn told(&self, channel: &Channel) -> ChannelStatus {
        channel.status(self.desk.gateway.pass(channel.contract().outpoint))
    }
}
