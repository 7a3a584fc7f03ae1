//! Config -> App; run; drain.
//!
//! Nothing here may hang or end the daemon because the machine is not ready: a device that is missing, a
//! firewall that refuses or a port that is taken is reported and tried again.

mod cards;
mod housekeeping;
mod operators;
pub mod relay;
mod uplinks;

use crate::access::{Access, Gatekeeper};
use crate::calls::Tls;
use crate::clock::Clock;
use crate::commands::Desk;
use crate::config::{netifd, Config, LogFormat, LogTarget, MintUrl, Problem, Severity, Venue};
use crate::control;
use crate::ecash::wallet::{self, Wallet};
use crate::ecash::{MintEvent, Mints, Seed};
use crate::http::{self, Edge, Listeners};
use crate::kms::Keeper;
use crate::network::gate::{GatedVenue, NftGate, Plan};
use crate::ops;
use crate::sale::invoice::InvoiceEngine;
use crate::sale::Terms;
use crate::shop::{Closed, Shop, Site};
use crate::store::{Admission, KeyFile, PurseName, Store, StoreError};
use crate::task;
use crate::units::Millis;
use housekeeping::Housekeeping;
use litemap::LiteMap;
use operators::OperatorWatch;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{signal, SignalKind};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use uplinks::UplinkWatch;

/// How often listeners and devices are brought in line.
const TEND_EVERY: Duration = Duration::from_secs(2);
/// How soon to try again to open a store that a command holds.
const HELD_AGAIN: Duration = Duration::from_millis(100);
/// How often to try to open a store that could not be opened for a reason that may pass.
const REOPEN_EVERY: Millis = Millis::from_secs(5);

/// SIGHUPs come in bursts, because one change of the network is several events to procd: the configuration is read when
/// none has come for a while.
const QUIET: Duration = Duration::from_secs(2);
/// The longest that a burst puts it off.
const LONGEST_BURST: Duration = Duration::from_secs(10);

/// For arithmetic on the curve and for asking the neighbours. No network call waits on one of them.
const BLOCKING_THREADS: usize = 8;

/// Runs the daemon with the configuration at `path` until SIGTERM.
pub fn run(path: &Path) -> ExitCode {
    let config = match Config::load(path) {
        Ok((config, warnings)) => {
            ops::log::start(config.main.log_target, config.main.log_format, config.main.log_level);
            report(path, &warnings);
            config
        }
        Err(problems) => {
            ops::log::start(LogTarget::Syslog, LogFormat::Text, log::LevelFilter::Info);
            report(path, &problems);
            return ExitCode::FAILURE;
        }
    };
    if !config.main.enabled {
        log::info!("switched off in the configuration ({}: option enabled); nothing to do", path.display());
        return ExitCode::SUCCESS;
    }
    ops::privileges::give_up(path);
    // Everything that we make is ours alone.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build();
    match runtime {
        Ok(runtime) => {
            let end = runtime.block_on(App::live(path.to_owned(), config));
            // Calls to a mint that hangs are not waited for.
            runtime.shutdown_timeout(Duration::from_millis(200));
            match end {
                End::Stopped(code) => code,
                End::Again => begin_again(),
            }
        }
        Err(err) => {
            log::error!("cannot start: {err}");
            ExitCode::FAILURE
        }
    }
}

enum End {
    Stopped(ExitCode),
    /// The store can be opened now: everything that hangs on it is made anew.
    Again,
}

/// Executes this program anew in this process, so that nothing of the closed shop is left over.
fn begin_again() -> ExitCode {
    let program = std::env::current_exe().unwrap_or_else(|_| "tollgated".into());
    let err = std::process::Command::new(program).args(std::env::args_os().skip(1)).exec();
    log::error!("cannot begin again: {err}");
    ExitCode::FAILURE
}

/// SIGHUPs one soon after the other.
#[derive(Clone, Copy)]
struct Burst {
    first: Instant,
    last: Instant,
}

impl Burst {
    fn with_one_more(before: Option<Burst>) -> Burst {
        let last = Instant::now();
        Burst { first: before.map_or(last, |before| before.first), last }
    }

    /// Returns when the burst has ended; without a burst it never returns.
    async fn end(burst: Option<Burst>) {
        match burst {
            Some(Burst { first, last }) => {
                tokio::time::sleep_until((last + QUIET).min(first + LONGEST_BURST)).await;
            }
            None => std::future::pending().await,
        }
    }
}

struct App {
    path: PathBuf,
    config: watch::Sender<Arc<Config>>,
    site: Arc<Site>,
    edge: Arc<Edge>,
    listeners: Listeners,
    #[cfg(feature = "grpc")]
    grpc: crate::grpc::GrpcListener,
    uplinks: UplinkWatch,
    operators: OperatorWatch,
    tls: Tls,
    housekeeping: Housekeeping,
    /// The file's domain was not taken at the start, and why.
    kept: Option<String>,
    /// SIGHUPs that were not followed yet.
    burst: Option<Burst>,
    /// When the store was last tried.
    opened: Millis,
    clock: Clock,
}

impl App {
    async fn live(path: PathBuf, mut config: Config) -> End {
        let failed = End::Stopped(ExitCode::FAILURE);
        // Before all else: a reload that comes while we start must not end us.
        let (Ok(mut terminate), Ok(mut interrupt), Ok(mut hangup)) =
            (signal(SignalKind::terminate()), signal(SignalKind::interrupt()), signal(SignalKind::hangup()))
        else {
            log::error!("cannot listen for signals");
            return failed;
        };
        let clock = Clock::machine();
        let kept = config.keep_domain();
        report(&path, kept.as_slice());
        let config = Arc::new(resolved(config));
        let (sender, receiver) = watch::channel(config.clone());
        let (events, mut mint_events) = mpsc::channel(256);
        let Some(tls) = tls(&config) else { return failed };
        let mints = Mints::new(tls.clone(), clock.clone(), events);
        let uplinks = UplinkWatch::read();
        let plan = plan(&config, &uplinks);
        let mut has_waited = false;
        let opened = loop {
            let opening = open_shop(&config, &clock, &mints, tls.clone(), plan.clone(), receiver.clone());
            match opening.await {
                // Meanwhile the kernel lets through the guests who have paid, and no others.
                Err(err @ StoreError::HeldByCommand) => {
                    if !std::mem::replace(&mut has_waited, true) {
                        log::warn!("{}: {err}; waiting for it to end", config.main.state_dir.display());
                    }
                    tokio::select! {
                        _ = tokio::time::sleep(HELD_AGAIN) => {}
                        _ = terminate.recv() => return End::Stopped(ExitCode::SUCCESS),
                        _ = interrupt.recv() => return End::Stopped(ExitCode::SUCCESS),
                    }
                }
                opened => break opened,
            }
        };
        let site = match opened {
            Ok((gatekeeper, shop)) => Site::new(receiver, gatekeeper, mints, shop),
            Err(err) => {
                log::error!("{}: {err}", config.main.state_dir.display());
                return failed;
            }
        };
        let (reload, mut reloads) = mpsc::channel(4);
        let (file, started) = (path.clone(), std::time::Instant::now());
        let desk = Arc::new(Desk { site: site.clone(), reload, file, started });
        let control = match control::listen(&config.main.run_dir) {
            Ok(listener) => Some(task::spawn(control::serve(listener, desk.clone()))),
            Err(err) => {
                log::error!("{}: no control socket: {err}", config.main.run_dir.display());
                None
            }
        };
        let now = clock.now();
        let (edge, listeners) = (Edge::new(desk), Listeners::default());
        let housekeeping = Housekeeping::new(now);
        let operators = OperatorWatch::default();
        let mut app = App {
            path: path.clone(),
            config: sender,
            site,
            edge,
            listeners,
            #[cfg(feature = "grpc")]
            grpc: crate::grpc::GrpcListener::default(),
            uplinks,
            operators,
            tls,
            housekeeping,
            kept: kept.map(|problem| text(&path, &problem)),
            burst: None,
            opened: now,
            clock,
        };
        log::info!("tollgated {} is up, gating {}", env!("CARGO_PKG_VERSION"), app.devices().join(", "));
        let mut tend = tokio::time::interval(TEND_EVERY);
        // What was missed while the machine stood still need not be made up for.
        tend.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let end = loop {
            tokio::select! {
                _ = tend.tick() => {
                    app.tend().await;
                    if app.may_open().await {
                        break End::Again;
                    }
                }
                Some((mint, event)) = mint_events.recv() => app.on_mint_event(&mint, &event),
                Some(reply) = reloads.recv() => app.reload(Some(reply)).await,
                _ = hangup.recv() => app.burst = Some(Burst::with_one_more(app.burst)),
                () = Burst::end(app.burst) => app.reload(None).await,
                _ = terminate.recv() => break End::Stopped(ExitCode::SUCCESS),
                _ = interrupt.recv() => break End::Stopped(ExitCode::SUCCESS),
            }
        };
        app.drain(control).await;
        end
    }

    /// Everything that is looked at again and again.
    async fn tend(&mut self) {
        self.operators.look(&self.path, &self.config);
        let config = self.site.config();
        self.site.certificate.tend(config.tls.as_ref(), &self.clock);
        let mut trouble = self.listeners.reconcile(&self.edge, &config);
        trouble.extend(self.site.shop.as_ref().ok().and_then(|shop| shop.tollgate.trouble()));
        #[cfg(feature = "grpc")]
        trouble.extend(self.grpc.reconcile(&self.site));
        trouble.extend(self.kept.clone());
        self.site.set_trouble(trouble);
        let mints: Vec<MintUrl> = config.mints.iter().map(|mint| mint.url.clone()).collect();
        self.site.mints.probe_silent(&mints);
        if self.uplinks.look() {
            let plan = plan(&config, &self.uplinks);
            log::info!("the internet is behind {}", plan.uplinks.join(", "));
            // The gate has the order; nothing here waits for it.
            drop(self.site.gatekeeper.replan(plan));
        }
        let Ok(shop) = self.site.shop.clone() else { return };
        let now = self.clock.now();
        shop.tend().await;
        http::go_on(&self.edge);
        self.housekeeping.tend(&shop, now);
    }

    /// Whether a shop that is closed for want of space, or by another fault of the machine, could open now.
    async fn may_open(&mut self) -> bool {
        let passes = |closed: &Closed| matches!(closed.code, "STORE_FULL" | "STORE_ERROR");
        let now = self.clock.now();
        if !self.site.shop.as_ref().is_err_and(passes) || now < self.opened.saturating_add(REOPEN_EVERY) {
            return false;
        }
        self.opened = now;
        match Store::open(&self.site.config().main.state_dir, &self.clock) {
            Ok(store) => {
                // Housekeeping does not run while the shop is closed.
                if !store.room_for_sales() {
                    drop(housekeeping::forget_records(&store, None).await);
                }
                // With a key that cannot be read we would begin again for ever.
                let opens =
                    store.room_for_sales() && store.catch_up().await.is_ok() && seeds(&store).await.is_ok();
                store.close().await;
                opens
            }
            Err(_) => false,
        }
    }

    fn on_mint_event(&self, mint: &MintUrl, event: &MintEvent) {
        if let Ok(shop) = &self.site.shop {
            shop.on_mint_event(mint, event);
        }
    }

    /// Takes the file over as it is now; a broken one changes nothing.
    async fn reload(&mut self, reply: Option<oneshot::Sender<Result<Vec<String>, Vec<String>>>>) {
        self.burst = None;
        match Config::load_keeping(&self.path) {
            Ok((config, warnings)) => {
                self.kept = None;
                report(&self.path, &warnings);
                let (config, waiting) = self.take_over(resolved(config));
                self.uplinks = UplinkWatch::read();
                renew(&self.tls, &config);
                let replanned = self.site.gatekeeper.replan(plan(&config, &self.uplinks));
                if let Some(cards) = self.site.shop.as_ref().ok().and_then(|shop| shop.cards.as_ref().ok()) {
                    cards::configure(cards.backends(), &config).await;
                }
                self.tend().await;
                let mut warnings = texts(&self.path, &warnings);
                warnings.extend(waiting.map(str::to_owned));
                // A gate that refuses is tried again, and status tells; nothing here waits for it.
                task::spawn(async move {
                    let _ = replanned.await;
                    let _ = reply.map(|reply| reply.send(Ok(warnings)));
                });
            }
            Err(problems) => {
                report(&self.path, &problems);
                log::error!("the configuration stays as it was");
                if let Some(reply) = reply {
                    let _ = reply.send(Err(texts(&self.path, &problems)));
                }
            }
        }
    }

    /// The configuration as it is used from now on, and the options of the file that take effect only after a restart.
    fn take_over(&mut self, mut new: Config) -> (Arc<Config>, impl Iterator<Item = &'static str>) {
        let old = self.site.config();
        let disabled = !new.main.enabled;
        new.main.enabled = true;
        let fixed = |main: &crate::config::Main| {
            (main.state_dir.clone(), main.run_dir.clone(), (main.log_target, main.log_format))
        };
        let moved = fixed(&old.main) != fixed(&new.main);
        let named = {
            let files = |config: &Config| {
                let tls = config.tls.as_ref().map(|tls| [tls.cert_file.clone(), tls.key_file.clone()]);
                let others = [config.main.ca_file.clone(), Some(config.admin.token_file.clone())];
                let vault = config.keys.iter().flat_map(|vault| vault.files().map(|(_, file)| file));
                let secrets = config.mpesa_files().chain(config.lightning_files()).chain(vault);
                let secrets = secrets.cloned().map(Some);
                others
                    .into_iter()
                    .chain(tls.into_iter().flatten().map(Some))
                    .chain(secrets)
                    .collect::<Vec<_>>()
            };
            let (before, now) = (files(&old), files(&new));
            let known = |file: &Path| {
                let mut folders = before.iter().flatten().map(|known| known.parent());
                folders.any(|folder| folder == file.parent()) || file.starts_with(&old.main.state_dir)
            };
            now.iter().flatten().any(|file| !known(file))
        };
        let log;
        (new.main.state_dir, new.main.run_dir, log) = fixed(&old.main);
        (new.main.log_target, new.main.log_format) = log;
        let waiting = [
            disabled.then_some("'enabled' is 0 now: that takes effect when the service is restarted"),
            moved.then_some(
                "state_dir, run_dir, log_target and log_format change only when the service is restarted",
            ),
            // A jail has the folders of the files that were named when it was made.
            named.then_some(
                "a file in another folder is named: under procd it is seen when the service is restarted",
            ),
        ];
        waiting.iter().flatten().for_each(|text| log::warn!("{text}"));
        log::set_max_level(new.main.log_level);
        let new = Arc::new(new);
        self.config.send_replace(new.clone());
        log::info!("configuration reloaded");
        (new, waiting.into_iter().flatten())
    }

    /// Stops selling; the kernel goes on letting the paid guests through.
    async fn drain(mut self, control: Option<tokio::task::JoinHandle<()>>) {
        self.listeners.stop();
        #[cfg(feature = "grpc")]
        self.grpc.stop();
        if let Some(control) = control {
            control.abort();
        }
        let run_dir = self.site.config().main.run_dir.clone();
        let _ = std::fs::remove_file(control::path(&run_dir));
        if let Ok(shop) = self.site.shop.clone() {
            if !shop.access.write_usage_now() {
                shop.store.checkpoint(true, &[]);
            }
            shop.audit.write_counted();
            shop.store.close().await;
        }
        log::info!("stopped; sessions stay open in the kernel");
    }

    fn devices(&self) -> Vec<String> {
        devices(&self.site.config())
    }
}

/// Opens the store and the rooms that sell. A store or key that cannot be used closes the shop; what the
/// kernel lets through goes on. An error only where another try can help (in use, no such directory).
async fn open_shop(
    config: &Config,
    clock: &Clock,
    mints: &Mints,
    tls: Tls,
    plan: Plan,
    receiver: watch::Receiver<Arc<Config>>,
) -> Result<(Gatekeeper, Result<Shop, Closed>), StoreError> {
    let closed = |err: &StoreError| {
        log::error!("nothing is sold: {}: {err}", err.code());
        Closed { code: err.code(), cause: err.to_string() }
    };
    let gate = Box::new(NftGate::new());
    let store = match Store::open(&config.main.state_dir, clock) {
        Ok(store) => store,
        Err(err @ (StoreError::InUse | StoreError::HeldByCommand)) => return Err(err),
        Err(err) => {
            let gatekeeper = Gatekeeper::start(gate, clock.clone(), plan, LiteMap::new(), true);
            return Ok((gatekeeper, Err(closed(&err))));
        }
    };
    let access = match Access::start(store.clone(), clock.clone(), gate, plan.clone()).await {
        Ok(access) => access,
        Err(err) => {
            let gate = Box::new(NftGate::new());
            let gatekeeper = Gatekeeper::start(gate, clock.clone(), plan, LiteMap::new(), true);
            return Ok((gatekeeper, Err(closed(&err))));
        }
    };
    let gatekeeper = access.gatekeeper().clone();
    let selling = async {
        store.catch_up().await?;
        let keeper = Keeper::start(&store, receiver.clone(), tls.clone()).await?;
        let (guests, takings) = seeds(&store).await?;
        let takings = Arc::new(takings);
        let late = admit_late(&access);
        let wallet =
            Wallet::start(store.clone(), mints.clone(), (PurseName::House, takings.clone()), late).await?;
        let terms = Terms::new(store.clone(), access.clone(), receiver.clone());
        let invoices = InvoiceEngine::start(terms.clone(), mints.clone(), guests, takings).await?;
        Ok::<_, StoreError>((terms, invoices, wallet, keeper))
    };
    let shop = match selling.await {
        Ok((terms, invoices, wallet, keeper)) => {
            let cards = cards::open(&store, tls.clone(), wallet.clone(), receiver).await;
            let shop = Shop::new(terms, (invoices, wallet), mints.clone(), (cards, keeper), tls).await;
            shop.map_err(|err| closed(&err))
        }
        Err(err) => Err(closed(&err)),
    };
    if shop.is_err() {
        // Closed even if others hold a handle already: it has to be opened anew, see `may_open`.
        store.close().await;
    }
    Ok((gatekeeper, shop))
}

/// Lets in the guests whose payment was found after their caller had stopped waiting.
fn admit_late(access: &Access) -> mpsc::Sender<Admission> {
    let (sender, mut sessions) = mpsc::channel(64);
    let access = access.clone();
    task::spawn(async move {
        while let Some(session) = sessions.recv().await {
            let access = access.clone();
            task::spawn(async move { drop(access.admit(session).await) });
        }
    });
    sender
}

/// The seed of the guests' money in transit, and that of the takings.
async fn seeds(store: &Store) -> Result<(Seed, Seed), StoreError> {
    Ok((Seed::of_file(KeyFile("customers"), store).await?, wallet::seed(store).await?))
}

/// Fills in the devices of venues that name a network of netifd.
fn resolved(mut config: Config) -> Config {
    let run_dir = config.main.run_dir.clone();
    let attached = |network: &str| netifd::attached(&run_dir, network);
    for problem in config.resolve_networks(Path::new(netifd::DEFAULT_PATH), &attached) {
        log::warn!("{problem}");
    }
    config
}

fn devices(config: &Config) -> Vec<String> {
    config.venues.iter().flat_map(|venue| venue.devices.clone()).collect()
}

fn plan(config: &Config, uplinks: &UplinkWatch) -> Plan {
    let is_reachable = |at: &SocketAddr| !at.ip().to_canonical().is_loopback();
    let gated = |venue: &Venue| GatedVenue {
        name: venue.id.clone(),
        devices: venue.devices.clone(),
        trusted: venue.trusted_macs.clone(),
        reach: venue.reach.clone(),
        is_named: config.names_at(Some(venue)).iter().any(Option::is_some),
    };
    Plan {
        venues: config.venues.iter().map(gated).collect(),
        uplinks: uplinks.devices(config),
        portal_port: config.main.port,
        mint_proxy_port: config.main.mint_proxy_port,
        redirect_port: config.main.redirect_port,
        tls_port: config.tls.as_ref().map(|tls| tls.port),
        operators_ports: config.operators_addresses().filter(is_reachable).map(|at| at.port()).collect(),
        garden: config.main.garden.clone(),
        gives_grace: config.venues.iter().any(|venue| venue.pay_grace != Millis::ZERO),
    }
}

fn text(path: &Path, problem: &Problem) -> String {
    match problem.line {
        Some(line) => format!("{}:{line}: {problem}", path.display()),
        None => format!("{}: {problem}", path.display()),
    }
}

/// The roots that mints' certificates must lead to. Without the operator's extra certificates some mints
/// could not be reached; with less than the public ones none could.
fn tls(config: &Config) -> Option<Tls> {
    let with_extra = Tls::new(extra_ca(config).as_deref()).map_err(|err| log::error!("ca_file: {err}"));
    with_extra.or_else(|()| Tls::new(None)).map_err(|err| log::error!("{err}")).ok()
}

/// Reads the operator's extra certificates again: a renewed file is another one of the same name. Where they cannot be
/// used, those before stay.
fn renew(tls: &Tls, config: &Config) {
    let extra = extra_ca(config);
    if extra.is_none() && config.main.ca_file.is_some() {
        return;
    }
    if let Err(err) = tls.renew(extra.as_deref()) {
        log::error!("ca_file: {err}");
    }
}

fn extra_ca(config: &Config) -> Option<Vec<u8>> {
    let file = config.main.ca_file.as_deref()?;
    std::fs::read(file).map_err(|err| log::error!("ca_file {}: {err}", file.display())).ok()
}

fn texts(path: &Path, problems: &[Problem]) -> Vec<String> {
    problems.iter().map(|problem| text(path, problem)).collect()
}

fn report(path: &Path, problems: &[Problem]) {
    for problem in problems {
        let text = text(path, problem);
        match problem.severity {
            Severity::Error => log::error!("{text}"),
            Severity::Warning => log::warn!("{text}"),
        }
    }
}
