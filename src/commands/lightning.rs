//! `tollgated lightning test`: whether what pays invoices answers, may pay, and may look payments up.

use super::Reach::Errand;
use super::Role::Manager;
use super::Shows::Own;
use super::{Command, CommandError, Desk, Ended, Given, Shell, Told, OTHERS};
use crate::lightning::test_command;
use serde_json::Value;

pub static COMMANDS: &[Command] = &[Command {
    name: "lightning test",
    args: "",
    role: Manager,
    reach: Errand(test, OTHERS, |desk, given| Box::pin(test_ecash(desk, given))),
    shows: Own,
    summary: "whether what pays invoices answers, may pay and may look payments up; pays nothing",
}];

/// A node is asked from here; the router's own ecash is in the daemon's hands.
fn test(shell: &mut Shell, given: &Given) -> Result<Ended, CommandError> {
    let config = shell.loaded()?;
    let tried = match test_command::is_the_daemons(&config) {
        false => test_command::try_node(&config),
        true => shell.have_done(given).map_err(|err| match err {
            CommandError::Closed("no_daemon", _) => {
                "the daemon, which has the wallet, does not answer".to_owned()
            }
            err => err.to_string(),
        }),
    };
    let told = test_command::told(&config, tried);
    let causes = ["answers", "may_pay", "may_look_up"].into_iter();
    let why = causes.filter_map(|what| told.data["tested"][what]["cause"].as_str()).next();
    let wrong = (!told.is_good)
        .then(|| ("node_not_ready", format!("{}: {}", told.summary, why.unwrap_or("no answer can be read"))));
    Ok(Ended::Told(Told { text: told.text, data: told.data, wrong }))
}

async fn test_ecash(desk: &Desk, _: &Given) -> Result<Value, CommandError> {
    Ok(test_command::try_ecash(&desk.site.shop.as_ref()?.wallet).await)
}
