//! What a person sees on a terminal of a certain width.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::fd::OwnedFd;
use std::process::Stdio;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcgetwinsize, tcsetwinsize};

use crate::world::World;

/// The model never says a word.
const MUTE: &str =
    "turns: [{ text: 'one two three', faults: [{ attempt: all, stall: { event: 1 } }] }]";
/// Begins the live line anew.
const CLEAR_LINE: &str = "\r\u{1b}[2K";
/// BOUND: what is read of a screen that never shows what is expected.
const PIECES_MAX: u32 = 300;

/// A terminal: what is written to the second is read from the first.
fn terminal(columns: u16) -> (File, OwnedFd) {
    let screen = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&screen).unwrap();
    unlockpt(&screen).unwrap();
    let name = ptsname(&screen, Vec::new()).unwrap();
    let line = OpenOptions::new()
        .read(true)
        .write(true)
        .open(name.to_str().unwrap())
        .unwrap();
    let screen = File::from(screen);
    resize(&screen, columns);
    (screen, line.into())
}

fn resize(screen: &File, columns: u16) {
    let size = Winsize {
        ws_col: columns,
        ..tcgetwinsize(screen).unwrap()
    };
    tcsetwinsize(screen, size).unwrap();
}

/// Reads until a live line of this many characters was drawn and the next one has begun; gives all that were drawn whole.
fn until_drawn(screen: &mut File, seen: &mut Vec<u8>, characters: usize) -> Vec<String> {
    let mut piece = [0; 4096];
    // It is drawn ten times a second: of this many pieces one would have been of that length.
    for _ in 0..PIECES_MAX {
        let text = String::from_utf8_lossy(seen);
        let mut drawn: Vec<String> = text.split(CLEAR_LINE).skip(1).map(str::to_owned).collect();
        drawn.pop();
        if drawn.iter().any(|line| line.chars().count() == characters) {
            return drawn;
        }
        match screen.read(&mut piece) {
            Ok(read) => seen.extend_from_slice(&piece[..read]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => panic!("{error}: {text:?}"),
        }
    }
    panic!(
        "no line of {characters} characters: {:?}",
        String::from_utf8_lossy(seen)
    );
}

#[test]
fn the_live_line_is_as_long_as_the_terminal_is_wide_also_when_it_is_resized() {
    let world = World::new().with_agent().with_model(MUTE);
    let (mut screen, line) = terminal(30);
    let mut child = world
        .command(["run", "helper", "hi", "--color", "never"])
        .stdout(Stdio::null())
        .stderr(line)
        .spawn()
        .unwrap();
    let mut seen = Vec::new();
    let drawn = until_drawn(&mut screen, &mut seen, 29);
    assert!(
        drawn.iter().all(|line| line.chars().count() < 30),
        "{drawn:?}"
    );
    resize(&screen, 12);
    until_drawn(&mut screen, &mut seen, 11);
    child.kill().unwrap();
    child.wait().unwrap();
}
