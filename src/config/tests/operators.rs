use super::*;

/// LUD-04's example key, and two more.
const ALICE: &str = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
const BOB: &str = "034f355bdcb7cc0af728ef3cceb9615d90684bb5b2ca5f859ab0f0b704075871aa";

fn file(sections: &str) -> String {
    format!("{}\n{sections}\n", main_with(""))
}

fn operator(name: &str, key: &str, role: &str) -> String {
    format!("config operator\n\toption name '{name}'\n\toption pubkey '{key}'\n\toption role '{role}'\n")
}

#[test]
fn an_operator_is_found_by_its_key() {
    let sections = operator("alice", &ALICE.to_uppercase(), "owner") + &operator("bob", BOB, "cashier");
    let config = good(&file(&sections));
    let [alice, bob] = config.operators.as_slice() else { panic!("{:?}", config.operators) };
    assert_eq!((alice.name.as_str(), alice.role, bob.role), ("alice", Role::Owner, Role::Cashier));
    assert_eq!(config.operator(&bob.key), Some(bob));
    assert_eq!(config.operator(&[2; 33]), None);
    assert!(Role::Owner > Role::Manager && Role::Manager > Role::Cashier && Role::Cashier > Role::Viewer);
    assert_eq!(good(&main_with("")).operators, []);
}

#[test]
fn names_keys_and_roles_are_what_they_should_be() {
    let zeros = format!("02{}", "0".repeat(64));
    for (name, key, role, said) in [
        ("", ALICE, "owner", "name: is missing"),
        ("a b", ALICE, "owner", "is no name"),
        ("shell", ALICE, "owner", "is what the audit log calls others"),
        ("token", ALICE, "owner", "is what the audit log calls others"),
        ("alice", &ALICE[2..], "owner", "is no wallet's key"),
        ("alice", &format!("04{}", &ALICE[2..]), "owner", "is no wallet's key"),
        ("alice", zeros.as_str(), "owner", "is no wallet's key"),
        ("alice", ALICE, "admin", "is no role"),
        ("alice", ALICE, "Owner", "is no role"),
    ] {
        assert_problem(&file(&operator(name, key, role)), said);
    }
    assert_problem(
        &file("config operator\n\toption name 'alice'\n\toption role 'owner'"),
        "pubkey: is missing",
    );
}

#[test]
fn two_operators_share_neither_name_nor_key() {
    let alice = operator("alice", ALICE, "owner");
    assert_problem(
        &file(&(alice.clone() + &operator("alice", BOB, "viewer"))),
        "is another operator already",
    );
    let twice = alice + &operator("bob", &ALICE.to_uppercase(), "viewer");
    assert_problem(&file(&twice), "is the key of 'alice' already");
}

#[test]
fn the_token_is_switched_off_only_where_there_is_an_owner() {
    let off = "config admin\n\toption token '0'\n";
    let refused = "error token: would let nobody in as owner";
    assert_problem(&file(off), refused);
    assert_problem(&file(&(off.to_owned() + &operator("bob", BOB, "manager"))), refused);
    let owner = off.to_owned() + &operator("alice", ALICE, "owner");
    assert_problem(&file(&owner), "warning token: would let nobody in as owner but the shell");
    assert!(!good(&file(&(owner + "config auth\n\toption domain 'wifi.example.net'\n"))).admin.token);
    assert!(good(&main_with("")).admin.token);
}
