//! The contract's script, its address, and the key in it.

use bitcoin::Network;
use bitcoin::hex::DisplayHex;
use farebox_channel::{Keyring, Kind, Payout, Seed, Terms};

use crate::support::{EXPIRY, client_key, expiry, key, keyring, outpoint, public, terms};

const CLIENT: &str = "03170f9a0646b6f8478a271ad70d64ae8d37498e4cecdb77b2fe96029064000250";

#[test]
fn a_refund_contract_is_two_of_two_with_the_clients_key_first() {
    let terms = terms(Kind::Refund);
    let script = terms.witness_script();
    let gateway = "02b026862ab51cf7285bab6298f0d53e71306440a11caf816f13764daa93dc1f5a";
    assert_eq!(script.to_hex_string(), format!("5221{CLIENT}21{gateway}52ae"));
    assert_eq!(script.len(), 71);
    assert_eq!(
        terms.address().to_string(),
        "bcrt1qpdspjmkgkutssfnc5zegl4mxzymg827mhxa75mafr7vnxrf56yzq504qna"
    );
}

#[test]
fn a_cltv_contract_lets_the_client_alone_after_the_expiry() {
    let terms = terms(Kind::Cltv);
    let script = terms.witness_script();
    let gateway = "02051d24da9170693bd614e7f7f1ca6145c2815ebbce03a923c2640405faa3e4d7";
    let expiry = "00754c6b"; // 1,800,172,800, least byte first
    assert_eq!(script.to_hex_string(), format!("21{gateway}ac6404{expiry}b1696821{CLIENT}ac"));
    assert_eq!(script.len(), 79);
    assert_eq!(
        terms.address().to_string(),
        "bcrt1qwnasskgz22nnu8pz6pejm0u0sc0lrj4kjmu5w7ymcp722zu5z5xqc70ypf"
    );
}

#[test]
fn another_network_has_other_keys_and_addresses() {
    let mainnet = Keyring::new(Seed::new([1; 32]), Network::Bitcoin);
    let address = |kind| {
        let terms = mainnet.terms(kind, public(&client_key()), expiry(EXPIRY));
        terms.address().to_string()
    };
    assert_eq!(
        Kind::ALL.map(address),
        [
            "bc1qykmpmwlg55e8qzfqfe2ljh7342ks6mh7v7094g7l6kn9chagwh0qp4azus",
            "bc1qtdacx0g066g489gdhzdt60nz882uhpxapptlf9z346llvadcuvrq6yvhph",
        ]
    );
}

#[test]
fn the_expiry_is_pushed_with_four_bytes_at_both_ends() {
    let pushed = |seconds| {
        let script = Terms { expiry: expiry(seconds), ..terms(Kind::Cltv) }.witness_script();
        script.as_bytes()[36..44].to_lower_hex_string()
    };
    assert_eq!(pushed(500_000_000), "040065cd1db16968");
    assert_eq!(pushed(2_147_483_647), "04ffffff7fb16968");
}

#[test]
fn the_output_script_is_the_one_of_the_address() {
    for kind in Kind::ALL {
        let terms = terms(kind);
        assert_eq!(terms.script_pubkey(), terms.address().script_pubkey());
        assert!(terms.script_pubkey().is_p2wsh());
    }
}

#[test]
fn the_gateways_key_depends_on_everything_that_is_agreed() {
    let client = public(&client_key());
    let at = |kind, key, seconds| keyring().terms(kind, key, expiry(seconds)).gateway_key;
    let other_seed = Keyring::new(Seed::new([2; 32]), Network::Regtest);
    let keys = [
        at(Kind::Cltv, client, EXPIRY),
        at(Kind::Refund, client, EXPIRY),
        at(Kind::Cltv, public(&key(1)), EXPIRY),
        at(Kind::Cltv, client, EXPIRY + 1),
        other_seed.terms(Kind::Cltv, client, expiry(EXPIRY)).gateway_key,
    ];
    for (index, key) in keys.iter().enumerate() {
        assert!(!keys[..index].contains(key), "key {index}");
    }
    assert_eq!(at(Kind::Cltv, client, EXPIRY), keys[0], "the same again needs no record");
}

#[test]
fn a_pass_is_a_channels_and_a_seeds_own() {
    let pass = keyring().pass(outpoint(9));
    let other_seed = Keyring::new(Seed::new([2; 32]), Network::Regtest);
    let other_output = bitcoin::OutPoint { vout: 8, ..outpoint(9) };
    assert_eq!(pass.as_bytes().to_lower_hex_string(), "ea66e90d0cceca1b49ce0d2e7c46465b");
    assert_ne!(pass, keyring().pass(outpoint(8)));
    assert_ne!(pass, keyring().pass(other_output));
    assert_ne!(pass, other_seed.pass(outpoint(9)));
}

#[test]
fn secrets_are_not_printed() {
    let keyring = keyring();
    let printed =
        format!("{:?} {:?} {keyring:?}", Seed::new([0x5a; 32]), keyring.pass(outpoint(9)));
    assert_eq!(printed, "Seed(..) Pass(..) Keyring { network: Regtest, .. }");
}

#[test]
fn a_store_can_tell_keyrings_apart() {
    let fingerprint = |seed, network| Keyring::new(Seed::new([seed; 32]), network).fingerprint();
    let own = fingerprint(1, Network::Regtest);
    assert_eq!(own, keyring().fingerprint());
    assert_ne!(own, fingerprint(2, Network::Regtest));
    assert_ne!(own, fingerprint(1, Network::Signet));
}

#[test]
fn an_address_can_be_a_payout() {
    let address = terms(Kind::Cltv).address();
    let payout = Payout::try_from(&address).unwrap();
    assert_eq!(payout.address(Network::Regtest), Some(address));
    assert_eq!(payout.dust().get(), 330);
}
