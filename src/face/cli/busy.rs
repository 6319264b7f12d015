//! A sign of life: after a second, a line on the terminal says what is being done, until it is done.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::live::Live;
use super::printer;

/// Whoever waits no longer than this needs no explanation.
const PATIENCE: Duration = Duration::from_secs(1);

/// Shown while it lives. Begin it after signals are blocked and helpers are started: it is a thread.
#[derive(Debug)]
pub(super) struct Busy {
    bar: Arc<Mutex<Option<ProgressBar>>>,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Busy {
    /// Nothing is shown without a terminal, to a script, or to whoever wants it quiet.
    pub(super) fn new(what: &str, silent: bool) -> Self {
        let bar = Arc::new(Mutex::new(None));
        if silent || printer::is_quiet() || !Live::is_possible() {
            return Self { bar, stop: None, thread: None };
        }
        let (stop, stopped) = channel();
        let (shown, what) = (Arc::clone(&bar), what.to_owned());
        let thread = std::thread::spawn(move || {
            if stopped.recv_timeout(PATIENCE) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            let spinner = ProgressBar::new_spinner().with_message(what).with_elapsed(PATIENCE);
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
                spinner.set_style(style);
            }
            spinner.enable_steady_tick(Duration::from_millis(120));
            *shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(spinner);
            // Only the end comes over this channel, as an error.
            let _ = stopped.recv();
            if let Some(spinner) = shown.lock().unwrap_or_else(PoisonError::into_inner).take() {
                spinner.finish_and_clear();
            }
        });
        Self { bar, stop: Some(stop), thread: Some(thread) }
    }

    /// Prints a line of the result above the sign of life.
    pub(super) fn out(&self, text: &str) {
        match &*self.bar.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(spinner) => spinner.suspend(|| printer::out(text)),
            None => printer::out(text),
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
