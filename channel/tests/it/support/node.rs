//! A node's view of a spend: as much of the script language as the two contracts need.
//!
//! It follows the rules of consensus and relay that matter here: `BIP-0065`, `BIP-0141`,
//! `BIP-0143`, and of `BIP-0146` low S, `NULLDUMMY` and `NULLFAIL`. A real node checks the same
//! transactions elsewhere.

use bitcoin::hashes::Hash;
use bitcoin::opcodes::all::{
    OP_CHECKMULTISIG, OP_CHECKSIG, OP_CLTV, OP_ENDIF, OP_NOTIF, OP_PUSHNUM_2, OP_VERIFY,
};
use bitcoin::script::{Instruction, read_scriptint};
use bitcoin::sighash::SighashCache;
use bitcoin::{Script, ScriptBuf, Sequence, Transaction, TxOut, ecdsa};
use secp256k1::{Message, PublicKey, SECP256K1};

/// The first lock time that is a time and no height.
const LOCK_TIME_THRESHOLD: i64 = 500_000_000;

/// Checks the witness of input `index`, which spends `spent`.
///
/// Whether the lock time has been reached is not asked.
pub(crate) fn check_spend(
    transaction: &Transaction,
    index: usize,
    spent: &TxOut,
) -> Result<(), &'static str> {
    let input = &transaction.input[index];
    if !input.script_sig.is_empty() {
        return Err("a native segwit input has no scriptSig");
    }
    let mut stack = input.witness.to_vec();
    let script = ScriptBuf::from_bytes(stack.pop().ok_or("no witness")?);
    if spent.script_pubkey != script.to_p2wsh() {
        return Err("another witness script");
    }
    let spend = Spend { transaction, index, spent, script: &script };
    spend.run(&mut stack)?;
    match stack.as_slice() {
        [top] if is_true(top) => Ok(()),
        [_] => Err("false"),
        _ => Err("the stack is not clean"),
    }
}

struct Spend<'a> {
    transaction: &'a Transaction,
    index: usize,
    spent: &'a TxOut,
    script: &'a Script,
}

impl Spend<'_> {
    fn run(&self, stack: &mut Vec<Vec<u8>>) -> Result<(), &'static str> {
        let mut skipping = false;
        for instruction in self.script.instructions_minimal() {
            match instruction.map_err(|_| "a push is not minimal")? {
                Instruction::Op(OP_ENDIF) => skipping = false,
                _ if skipping => {}
                Instruction::PushBytes(bytes) => stack.push(bytes.as_bytes().to_vec()),
                Instruction::Op(OP_PUSHNUM_2) => stack.push(vec![2]),
                Instruction::Op(OP_NOTIF) => skipping = is_true(&pop(stack)?),
                Instruction::Op(OP_VERIFY) => {
                    if !is_true(&pop(stack)?) {
                        return Err("verify");
                    }
                }
                Instruction::Op(OP_CLTV) => self.check_lock_time(stack.last())?,
                Instruction::Op(OP_CHECKSIG) => {
                    let key = pop(stack)?;
                    let signature = pop(stack)?;
                    let is_signed = self.is_signed(&signature, &key)?;
                    if !is_signed && !signature.is_empty() {
                        return Err("a failing signature is not empty");
                    }
                    stack.push(if is_signed { vec![1] } else { vec![] });
                }
                Instruction::Op(OP_CHECKMULTISIG) => self.check_both(stack)?,
                Instruction::Op(_) => return Err("an opcode of neither contract"),
            }
        }
        Ok(())
    }

    /// `2 <key> <key> 2 CHECKMULTISIG`: each signature in the order of its key.
    fn check_both(&self, stack: &mut Vec<Vec<u8>>) -> Result<(), &'static str> {
        if pop(stack)? != [2] {
            return Err("two keys");
        }
        let keys = [pop(stack)?, pop(stack)?];
        if pop(stack)? != [2] {
            return Err("two signatures");
        }
        for key in &keys {
            if !self.is_signed(&pop(stack)?, key)? {
                return Err("a signature of two is wrong");
            }
        }
        if !pop(stack)?.is_empty() {
            return Err("the dummy is not empty");
        }
        stack.push(vec![1]);
        Ok(())
    }

    fn is_signed(&self, signature: &[u8], key: &[u8]) -> Result<bool, &'static str> {
        if signature.is_empty() {
            return Ok(false);
        }
        let key = PublicKey::from_slice(key).map_err(|_| "no key")?;
        let ecdsa::Signature { signature, sighash_type } =
            ecdsa::Signature::from_slice(signature).map_err(|_| "no DER signature")?;
        let hash = SighashCache::new(self.transaction)
            .p2wsh_signature_hash(self.index, self.script, self.spent.value, sighash_type)
            .map_err(|_| "no such input")?;
        let message = Message::from_digest(hash.to_byte_array());
        Ok(SECP256K1.verify_ecdsa(&message, &signature, &key).is_ok())
    }

    fn check_lock_time(&self, operand: Option<&Vec<u8>>) -> Result<(), &'static str> {
        let operand = read_scriptint(operand.ok_or("no operand")?).map_err(|_| "no number")?;
        let lock_time = i64::from(self.transaction.lock_time.to_consensus_u32());
        if (operand < LOCK_TIME_THRESHOLD) != (lock_time < LOCK_TIME_THRESHOLD) {
            return Err("a height is no time");
        }
        if operand < 0 || operand > lock_time {
            return Err("locked until later");
        }
        if self.transaction.input[self.index].sequence == Sequence::MAX {
            return Err("the sequence is final");
        }
        Ok(())
    }
}

fn pop(stack: &mut Vec<Vec<u8>>) -> Result<Vec<u8>, &'static str> {
    stack.pop().ok_or("the stack is empty")
}

fn is_true(element: &[u8]) -> bool {
    element.iter().any(|byte| *byte != 0)
}
