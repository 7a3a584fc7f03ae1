//! Blinded outputs: made from seed and counters before a request leaves, turned into proofs by the answer.
//!
//! The same seed, keyset, counter and amounts always make the same outputs, so that writing down those
//! four is enough to repeat a request byte for byte or to restore what a lost answer held.

use super::curve::{self, Dleq, PublicKey, SecretKey};
use super::error::{EcashError, Lie};
use super::keyset::{Keyset, KeysetId};
use super::lock::Lock;
use super::seed::{ProofSecret, Seed, SeedError};
use crate::units::Sats;

/// What a mint signs at once is bounded (NUT-09: 1000); one sale needs far fewer.
const MAX_OUTPUTS: usize = 1000;

/// Outputs of one request, ascending by amount.
#[derive(Clone, Debug)]
pub struct Outputs {
    keyset: KeysetId,
    outputs: Vec<Output>,
}

#[derive(Clone, Debug)]
struct Output {
    counter: u32,
    /// Zero for a blank one: the mint decides what it is worth (NUT-08).
    amount: Sats,
    secret: ProofSecret,
    r: SecretKey,
    blinded: PublicKey,
}

/// A mint's answer to one output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlindSignature {
    pub keyset: KeysetId,
    pub amount: Sats,
    pub c_: PublicKey,
    pub dleq: Option<Dleq>,
}

/// Money: a secret with the mint's signature on it. Debug output shows neither secret nor blinding factor.
#[derive(Clone, Debug)]
pub struct Proof {
    /// Which counter of our seed it was made from; `None` for what others made.
    pub counter: Option<u32>,
    pub keyset: KeysetId,
    pub amount: Sats,
    pub secret: ProofSecret,
    pub c: PublicKey,
    pub dleq: Option<ProofDleq>,
    /// What unlocks it, once it is to be spent.
    pub witness: Option<String>,
}

/// What lets a receiver check a proof without asking the mint (NUT-12).
#[derive(Clone, Debug)]
pub struct ProofDleq {
    pub dleq: Dleq,
    pub r: SecretKey,
}

impl Outputs {
    /// Makes one output per amount (zero: a blank one, NUT-08), with the counters from `first_counter` on. The
    /// caller has reserved `amounts.len()` counters durably before.
    pub fn prepare(
        seed: &Seed,
        keyset: KeysetId,
        first_counter: u32,
        amounts: &[Sats],
    ) -> Result<Outputs, EcashError> {
        Outputs::made(seed, keyset, first_counter, amounts, None)
    }

    /// The same, locked. What would be the proof's secret is the lock's nonce.
    pub fn prepare_locked(
        seed: &Seed,
        keyset: KeysetId,
        first_counter: u32,
        amounts: &[Sats],
        lock: &Lock,
    ) -> Result<Outputs, EcashError> {
        Outputs::made(seed, keyset, first_counter, amounts, Some(lock))
    }

    /// These outputs followed by `others`, for one request; `None` if they are too many, or of two keysets.
    pub fn followed_by(mut self, others: Outputs) -> Option<Outputs> {
        self.outputs.extend(others.outputs);
        (self.keyset == others.keyset && self.outputs.len() <= MAX_OUTPUTS).then_some(self)
    }

    fn made(
        seed: &Seed,
        keyset: KeysetId,
        first_counter: u32,
        amounts: &[Sats],
        lock: Option<&Lock>,
    ) -> Result<Outputs, EcashError> {
        if amounts.is_empty() || amounts.len() > MAX_OUTPUTS {
            return Err(EcashError::AmountNotPossible);
        }
        let mut amounts = amounts.to_vec();
        amounts.sort_unstable();
        let mut outputs = Vec::with_capacity(amounts.len());
        let mut next = Some(first_counter);
        for amount in amounts {
            let counter = next.ok_or(SeedError::NoSuchKey)?;
            let (secret, r) = seed.secret(&keyset, counter)?;
            let secret = lock.map_or(secret.clone(), |lock| lock.secret(secret.as_str()));
            let blinded = curve::blind(secret.as_str().as_bytes(), &r).ok_or(SeedError::NoSuchKey)?;
            outputs.push(Output { counter, amount, secret, r, blinded });
            next = counter.checked_add(1);
        }
        Ok(Outputs { keyset, outputs })
    }

    pub fn keyset(&self) -> KeysetId {
        self.keyset
    }

    pub fn len(&self) -> usize {
        self.outputs.len()
    }

    pub fn is_empty(&self) -> bool {
        self.outputs.is_empty()
    }

    /// Amount and `B_` of each output, in the order they are sent and signed.
    pub fn blinded(&self) -> impl Iterator<Item = (Sats, PublicKey)> + '_ {
        self.outputs.iter().map(|output| (output.amount, output.blinded))
    }

    /// Turns the answer to a mint or swap request into proofs. Every signature must be there, in order,
    /// with its DLEQ proof.
    pub fn unblind(&self, keyset: &Keyset, signatures: &[BlindSignature]) -> Result<Vec<Proof>, Lie> {
        match signatures.len() == self.outputs.len() {
            true => self.unblind_first(keyset, signatures),
            false => Err(Lie::SignatureCount),
        }
    }

    /// Turns the change of a melt (NUT-08) into proofs: the mint signs as many of the blank outputs, from the
    /// first on, as it needs.
    pub fn unblind_first(&self, keyset: &Keyset, signatures: &[BlindSignature]) -> Result<Vec<Proof>, Lie> {
        if signatures.len() > self.outputs.len() {
            return Err(Lie::SignatureCount);
        }
        let pairs = self.outputs.iter().zip(signatures);
        pairs.map(|(output, signature)| self.unblind_one(output, keyset, signature)).collect()
    }

    /// Turns the answer to a restore (NUT-09) into proofs: those of our outputs that the mint has signed,
    /// found by `B_`, in our order.
    pub fn unblind_restored(
        &self,
        keyset: &Keyset,
        restored: &[(PublicKey, BlindSignature)],
    ) -> Result<Vec<Proof>, Lie> {
        let unasked = |blinded: &PublicKey| self.outputs.iter().all(|output| output.blinded != *blinded);
        if restored.iter().any(|(blinded, _)| unasked(blinded)) {
            return Err(Lie::UnaskedOutput);
        }
        let mut proofs = Vec::new();
        for output in &self.outputs {
            if let Some((_, signature)) = restored.iter().find(|(blinded, _)| *blinded == output.blinded) {
                proofs.push(self.unblind_one(output, keyset, signature)?);
            }
        }
        Ok(proofs)
    }

    fn unblind_one(
        &self,
        output: &Output,
        keyset: &Keyset,
        signature: &BlindSignature,
    ) -> Result<Proof, Lie> {
        let is_its_amount = output.amount == Sats(0) || signature.amount == output.amount;
        if keyset.id() != self.keyset || signature.keyset != self.keyset || !is_its_amount {
            return Err(Lie::SignatureTerms);
        }
        let mint_key = keyset.key(signature.amount).ok_or(Lie::SignatureTerms)?;
        let dleq = signature.dleq.ok_or(Lie::NoDleq)?;
        if !dleq.proves_answer(mint_key, output.blinded, signature.c_) {
            return Err(Lie::BadDleq);
        }
        Ok(Proof {
            counter: Some(output.counter),
            keyset: self.keyset,
            amount: signature.amount,
            secret: output.secret.clone(),
            c: curve::unblind(signature.c_, &output.r, mint_key).ok_or(Lie::BadDleq)?,
            dleq: Some(ProofDleq { dleq, r: output.r.clone() }),
            witness: None,
        })
    }
}

impl Proof {
    /// Whether the proof carries evidence that the mint signed it, and the evidence holds. `None` where it
    /// carries none: then only a swap tells.
    pub fn dleq_holds(&self, keyset: &Keyset) -> Option<bool> {
        let ProofDleq { dleq, r } = self.dleq.as_ref()?;
        let holds = keyset.id() == self.keyset
            && keyset
                .key(self.amount)
                .is_some_and(|key| dleq.proves_proof(key, self.secret.as_str().as_bytes(), self.c, r));
        Some(holds)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::ecash::hex;
    use crate::ecash::keyset::KeysetTerms;
    use sha2::{Digest, Sha256};

    /// A mint that signs honestly: one secret key for every amount, which a lazy mint may have.
    pub(crate) struct Signer {
        key: SecretKey,
        pub(crate) keyset: Keyset,
    }

    impl Signer {
        pub(crate) fn new() -> Signer {
            let key = SecretKey::from_bytes(&[0x42; 32]).unwrap();
            let text = key.public_key().to_string();
            let amounts: Vec<String> = (0..20).map(|bit| (1u64 << bit).to_string()).collect();
            let hash = amounts.iter().fold(Sha256::new(), |h, _| h.chain_update(key.public_key().to_bytes()));
            let id = format!("00{}", hex::encode(&hash.finalize()[..7]));
            let terms = KeysetTerms { unit: "sat".into(), input_fee_ppk: 0, final_expiry: None };
            let keys = amounts.iter().map(|amount| (amount.as_str(), text.as_str()));
            let keyset = Keyset::verified(KeysetId::parse(&id).unwrap(), terms, keys).unwrap();
            Signer { key, keyset }
        }

        pub(crate) fn sign(&self, amount: Sats, blinded: PublicKey) -> BlindSignature {
            let c_ = blinded.times(&self.key);
            let dleq = Dleq::prove(&self.key, blinded, &SecretKey::from_bytes(&[0x77; 32]).unwrap());
            BlindSignature { keyset: self.keyset.id(), amount, c_, dleq: Some(dleq) }
        }

        pub(crate) fn sign_all(&self, outputs: &Outputs) -> Vec<BlindSignature> {
            outputs.blinded().map(|(amount, blinded)| self.sign(amount, blinded)).collect()
        }
    }

    fn seed() -> Seed {
        Seed::from_entropy(&[9; 16]).unwrap()
    }

    fn prepared(signer: &Signer) -> Outputs {
        Outputs::prepare(&seed(), signer.keyset.id(), 5, &[Sats(8), Sats(1), Sats(4)]).unwrap()
    }

    #[test]
    fn an_honest_answer_becomes_proofs_that_a_receiver_can_check() {
        let signer = Signer::new();
        let outputs = prepared(&signer);
        let proofs = outputs.unblind(&signer.keyset, &signer.sign_all(&outputs)).unwrap();
        assert_eq!(proofs.iter().map(|p| p.amount.0).collect::<Vec<_>>(), [1, 4, 8]);
        for proof in &proofs {
            assert_eq!(proof.c, proof.secret.y().times(&signer.key));
            assert_eq!(proof.dleq_holds(&signer.keyset), Some(true));
        }
    }

    #[test]
    fn the_same_seed_and_counters_make_the_same_outputs() {
        let signer = Signer::new();
        let (one, two) = (prepared(&signer), prepared(&signer));
        assert!(one.blinded().eq(two.blinded()));
        let next = Outputs::prepare(&seed(), signer.keyset.id(), 8, &[Sats(1), Sats(4), Sats(8)]).unwrap();
        assert!(one.blinded().zip(next.blinded()).all(|(a, b)| a != b));
    }

    #[test]
    fn answers_that_differ_from_the_request_are_lies() {
        let signer = Signer::new();
        let outputs = prepared(&signer);
        let good = signer.sign_all(&outputs);
        let lie = |change: fn(&mut Vec<BlindSignature>)| {
            let mut signatures = good.clone();
            change(&mut signatures);
            outputs.unblind(&signer.keyset, &signatures).unwrap_err()
        };
        assert_eq!(lie(|s| s.truncate(2)), Lie::SignatureCount);
        assert_eq!(lie(|s| s.push(s[0].clone())), Lie::SignatureCount);
        assert_eq!(lie(|s| s[0].amount = Sats(2)), Lie::SignatureTerms);
        assert_eq!(lie(|s| s[0].keyset = KeysetId::V1([0; 8])), Lie::SignatureTerms);
        assert_eq!(lie(|s| s[1].dleq = None), Lie::NoDleq);
        assert_eq!(lie(|s| s[1].c_ = s[0].c_), Lie::BadDleq);
        assert_eq!(lie(|s| s.swap(0, 1)), Lie::SignatureTerms);
    }

    #[test]
    fn blank_outputs_take_whatever_amounts_the_mint_gives_as_change() {
        let signer = Signer::new();
        let blank = Outputs::prepare(&seed(), signer.keyset.id(), 7, &[Sats(0); 3]).unwrap();
        let points: Vec<_> = blank.blinded().map(|(_, blinded)| blinded).collect();
        let change = [signer.sign(Sats(64), points[0]), signer.sign(Sats(2), points[1])];
        let proofs = blank.unblind_first(&signer.keyset, &change).unwrap();
        let got: Vec<_> = proofs.iter().map(|proof| (proof.amount.0, proof.counter)).collect();
        assert_eq!(got, [(64, Some(7)), (2, Some(8))]);
        assert!(proofs.iter().all(|proof| proof.dleq_holds(&signer.keyset) == Some(true)));
        assert!(blank.unblind_first(&signer.keyset, &[]).unwrap().is_empty());
        let many = vec![change[0].clone(); 4];
        assert_eq!(blank.unblind_first(&signer.keyset, &many).unwrap_err(), Lie::SignatureCount);
    }

    #[test]
    fn restored_signatures_are_found_by_their_output() {
        let signer = Signer::new();
        let outputs = prepared(&signer);
        let answer: Vec<_> = outputs.blinded().map(|(a, b)| (b, signer.sign(a, b))).collect();
        let all = outputs.unblind_restored(&signer.keyset, &answer).unwrap();
        assert_eq!(all.len(), 3);
        let reversed: Vec<_> = answer.iter().rev().cloned().collect();
        let again = outputs.unblind_restored(&signer.keyset, &reversed).unwrap();
        assert!(all.iter().zip(&again).all(|(a, b)| a.c == b.c && a.secret == b.secret));
        assert_eq!(outputs.unblind_restored(&signer.keyset, &answer[1..2]).unwrap()[0].amount, Sats(4));
        assert!(outputs.unblind_restored(&signer.keyset, &[]).unwrap().is_empty());
    }

    #[test]
    fn a_restored_output_that_was_not_asked_for_is_a_lie() {
        let signer = Signer::new();
        let foreign = curve::hash_to_curve(b"foreign");
        let answer = [(foreign, signer.sign(Sats(1), foreign))];
        let refused = prepared(&signer).unblind_restored(&signer.keyset, &answer).unwrap_err();
        assert_eq!(refused, Lie::UnaskedOutput);
    }

    #[test]
    fn too_many_outputs_and_exhausted_counters_are_refused() {
        let id = Signer::new().keyset.id();
        for amounts in [vec![], vec![Sats(1); 1001]] {
            let refused = Outputs::prepare(&seed(), id, 0, &amounts).unwrap_err();
            assert_eq!(refused, EcashError::AmountNotPossible);
        }
        for first in [(1 << 31) - 1, u32::MAX] {
            let refused = Outputs::prepare(&seed(), id, first, &[Sats(1), Sats(1)]).unwrap_err();
            assert_eq!(refused, EcashError::Seed(SeedError::NoSuchKey));
        }
    }

    #[test]
    fn proofs_do_not_show_their_secrets_in_debug_output() {
        let signer = Signer::new();
        let outputs = prepared(&signer);
        let proofs = outputs.unblind(&signer.keyset, &signer.sign_all(&outputs)).unwrap();
        let shown = format!("{outputs:?} {proofs:?}");
        for proof in &proofs {
            assert!(!shown.contains(proof.secret.as_str()));
            assert!(!shown.contains(&hex::encode(&proof.dleq.as_ref().unwrap().r.to_bytes())));
        }
    }
}
