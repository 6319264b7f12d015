//! `cofferdam ask`: what an agent asks of whoever runs it, from inside its sandbox. Not a command for people: outside there is nobody to ask.

use std::io::{ErrorKind, Read};
use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::failure::Exit;
use super::printer;
use crate::agents::ask::{self, Operation, Takes};
use crate::agents::counter;
use crate::base::text::one_line;

/// The hidden subcommand.
pub(super) const COMMAND: &str = "ask";

/// Asks, and prints what is answered.
pub(super) fn main(arguments: impl Iterator<Item = std::ffi::OsString>) -> ExitCode {
    let mut words: Vec<String> = arguments.map(|word| word.to_string_lossy().into_owned()).collect();
    let json = words.first().is_some_and(|word| word == "--json");
    if json {
        words.remove(0);
    }
    let asks = words.first().map(String::as_str);
    if matches!(asks, None | Some("help" | "--help" | "-h")) {
        printer::out(&help());
        return if asks.is_some() { ExitCode::SUCCESS } else { ExitCode::from(Exit::Usage as u8) };
    }
    match request(&words).and_then(|request| send(&request, json)) {
        Ok(code) => code,
        Err((what, next, exit)) => {
            printer::failed(&format!("error: {what}\n  next: {next}"));
            ExitCode::from(exit as u8)
        }
    }
}

type Wrong = (String, String, Exit);

fn help() -> String {
    let word = |operation: &Operation| match operation.takes() {
        Takes::Nothing => operation.name().to_owned(),
        Takes::Text => format!("{} TEXT", operation.name()),
        Takes::Document => format!("{} FILE", operation.name()),
        Takes::MayTakeDocument => format!("{} [FILE]", operation.name()),
    };
    let lines: String = Operation::ALL.iter().map(|o| format!("  {:<14} {}\n", word(o), o.about())).collect();
    format!(
        "For an agent in the sandbox of a story: asks whoever runs it. Nothing that is said here is evidence of anything.\n\n\
         cofferdam ask [--json] …\n{lines}\nFILE may be - for standard input. Which of them a role may ask for, `status` says.\n"
    )
}

fn request(words: &[String]) -> Result<Value, Wrong> {
    let name = words.first().map(String::as_str).unwrap_or_default();
    let operation = Operation::parse(name).ok_or_else(|| {
        (format!("there is no `cofferdam ask {}`", one_line(name)), "cofferdam ask --help lists what there is".to_owned(), Exit::Usage)
    })?;
    let rest = &words[1..];
    let usage = |what: &str| (what.to_owned(), "cofferdam ask --help says what belongs to it".to_owned(), Exit::Usage);
    let text = match (operation.takes(), rest) {
        (Takes::Nothing | Takes::MayTakeDocument, []) => None,
        (Takes::Nothing, _) => return Err(usage(&format!("`ask {name}` takes nothing more"))),
        (Takes::Text, []) => return Err(usage(&format!("`ask {name}` needs a text"))),
        (Takes::Text, words) => Some(words.join(" ")),
        (Takes::Document | Takes::MayTakeDocument, [file]) => Some(content(file)?),
        (Takes::Document | Takes::MayTakeDocument, _) => return Err(usage(&format!("`ask {name}` takes one file"))),
    };
    Ok(json!({"ask": name, "text": text}))
}

/// A document, no longer than can be asked with.
fn content(file: &str) -> Result<String, Wrong> {
    let limit = ask::LONGEST as u64;
    let mut bytes = Vec::new();
    let read = if file == "-" {
        std::io::stdin().take(limit).read_to_end(&mut bytes)
    } else {
        fs_err::File::open(file).and_then(|file| file.take(limit).read_to_end(&mut bytes))
    };
    let wrong = |what: String| (what, "name a file that can be read, or - for standard input".to_owned(), Exit::Usage);
    read.map_err(|e| wrong(e.to_string()))?;
    String::from_utf8(bytes).map_err(|_| wrong(format!("{} is no UTF-8 text", one_line(file))))
}

fn send(request: &Value, json: bool) -> Result<ExitCode, Wrong> {
    let nobody = || {
        let what = "there is nobody to ask: this is not the sandbox of a story's agent".to_owned();
        let next = "`cofferdam ask` is for agents that `cofferdam run` started; people use `cofferdam status`, `note` and `answer`";
        (what, next.to_owned(), Exit::Usage)
    };
    let socket = Path::new(counter::SOCKET);
    if !socket.exists() {
        return Err(nobody());
    }
    let token = fs_err::read_to_string(counter::token_file()).unwrap_or_default();
    let mut request = request.clone();
    request["token"] = token.trim().into();
    let answer = counter::ask(socket, &request).map_err(|error| match error.kind() {
        ErrorKind::NotFound => nobody(),
        _ => (format!("it was not heard: {error}"), "try again in a moment; what counts is what you leave".to_owned(), Exit::Failure),
    })?;
    let ok = answer["ok"] == true;
    let word = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
    if json {
        printer::out(&format!("{answer}\n"));
    } else if ok {
        printer::out(&format!("{}\n", one_line(&word("say"))));
        details(&answer);
    } else {
        return Err((one_line(&word("why")).into_owned(), one_line(&word("next")).into_owned(), Exit::Failure));
    }
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::from(Exit::Failure as u8) })
}

/// The rest of `status`, a line each.
fn details(answer: &Value) {
    let known = answer.as_object().into_iter().flatten().filter(|(key, _)| !matches!(key.as_str(), "version" | "ok" | "say" | "may"));
    for (key, value) in known.filter(|(_, value)| !value.is_null()) {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        printer::out(&format!("  {key}: {}\n", one_line(&value)));
    }
}
