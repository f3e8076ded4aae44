//! The list of attacks, each made three times by the same code in a worker of the production launcher: with
//! the sandbox off, where it has to succeed (or the test would prove nothing), at level l1 and at level l2.

use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use otto_core::AgentName;
use otto_core::policy::Permission;
use otto_sandbox::{LevelChoice, WorkerHost};

use crate::world::{
    AGENT, Call, INSIDE, NOTHING, READ, READ_WRITE, SECRET, Tree, WRITE, Witness, block_on, is_root,
};

/// One attack.
struct Case {
    name: &'static str,
    tool: &'static str,
    worker: &'static [Permission],
    input: fn(&Scene) -> String,
    off: Off,
    l1: &'static [i32],
    l2: &'static [i32],
}

/// What must come of an attack with the sandbox off.
#[derive(Clone, Copy)]
enum Off {
    /// It works.
    Works,
    /// It works for uid 0, and is refused to others by ordinary rules.
    WorksForRoot,
    /// It gets as far as the kernel's own code, which answers with one of these; none of them is what the
    /// sandbox answers.
    Reaches(&'static [i32]),
    /// It gets as far for uid 0 only.
    ReachesForRoot(&'static [i32]),
}

/// What the input of an attack is made of.
pub struct Scene {
    pub tree: Tree,
    witness: Witness,
    witness_address: usize,
    tcp: TcpListener,
    _unix: UnixListener,
    _abstract: UnixListener,
    abstract_name: String,
}

impl Scene {
    pub fn new() -> Self {
        use std::os::linux::net::SocketAddrExt;
        let tree = Tree::new();
        let abstract_name = format!("otto-boundary-{}", tree.root.display());
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&abstract_name)
            .expect("a short name");
        static CONSTANT: u8 = 7;
        Self {
            witness: Witness::new(),
            // The witness is this program, loaded where the kernel put it; where exactly does not matter to the call.
            witness_address: (&raw const CONSTANT) as usize,
            tcp: TcpListener::bind(("127.0.0.1", 0)).expect("a loopback port"),
            _unix: UnixListener::bind(tree.path("outside/socket")).expect("a socket of the test"),
            _abstract: UnixListener::bind_addr(&address).expect("a socket of the test"),
            abstract_name,
            tree,
        }
    }

    fn work(&self, below: &str) -> String {
        self.tree.text(&format!("work/{below}"))
    }

    fn outside(&self, below: &str) -> String {
        self.tree.text(&format!("outside/{below}"))
    }

    fn port(&self) -> u16 {
        self.tcp.local_addr().expect("it is bound").port()
    }
}

const NOENT: i32 = libc::ENOENT;
const ACCES: i32 = libc::EACCES;
const PERM: i32 = libc::EPERM;
const ROFS: i32 = libc::EROFS;

/// Refused by the filter at both levels.
const FILTERED: (&[i32], &[i32]) = (&[PERM], &[PERM]);

macro_rules! case {
    ($name:literal, $tool:literal, $worker:expr, $input:expr, $off:expr, $l1:expr, $l2:expr) => {
        Case {
            name: $name,
            tool: $tool,
            worker: $worker,
            input: $input,
            off: $off,
            l1: $l1,
            l2: $l2,
        }
    };
    ($name:literal, $tool:literal, $worker:expr, $input:expr, $off:expr, filtered) => {
        Case {
            name: $name,
            tool: $tool,
            worker: $worker,
            input: $input,
            off: $off,
            l1: FILTERED.0,
            l2: FILTERED.1,
        }
    };
}

/// Reading what is outside.
const READING: &[Case] = &[
    case!(
        "open /etc/passwd",
        "read",
        READ,
        |_| "/etc/passwd".into(),
        Off::Works,
        &[ACCES],
        &[NOENT]
    ),
    case!(
        "open a file outside",
        "read",
        READ,
        |s| s.outside("canary"),
        Off::Works,
        &[ACCES],
        &[NOENT]
    ),
    case!(
        "open by climbing",
        "read",
        READ,
        |_| "../outside/canary".into(),
        Off::Works,
        &[ACCES],
        &[NOENT]
    ),
    case!(
        "open by climbing from below",
        "read",
        READ,
        |_| "sub/../../outside/canary".into(),
        Off::Works,
        &[ACCES],
        &[NOENT]
    ),
    case!(
        "open next door, with a name that extends ours",
        "read",
        READ,
        |s| s.tree.text("work-evil/canary"),
        Off::Works,
        &[ACCES],
        &[NOENT]
    ),
    case!(
        "open through a link",
        "read",
        READ,
        |_| "link-out".into(),
        Off::Works,
        &[ACCES],
        &[NOENT]
    ),
    case!(
        "open through an absolute link",
        "read",
        READ,
        |_| "link-abs".into(),
        Off::Works,
        &[ACCES],
        &[NOENT]
    ),
    case!(
        "open through a link to a directory",
        "read",
        READ,
        |_| "link-dir/canary".into(),
        Off::Works,
        &[ACCES],
        &[NOENT]
    ),
    case!(
        "open through /proc/self/root",
        "read",
        READ,
        |s| format!("/proc/self/root{}", s.outside("canary")),
        Off::Works,
        &[ACCES],
        &[NOENT]
    ),
    case!(
        "open through /proc/self/cwd",
        "read",
        READ,
        |_| "/proc/self/cwd/../outside/canary".into(),
        Off::Works,
        &[ACCES],
        &[NOENT]
    ),
    case!(
        "read the environment of another process",
        "read",
        READ,
        |s| format!("/proc/{}/environ", s.witness.pid()),
        Off::Works,
        &[ACCES],
        &[NOENT]
    ),
    case!(
        "open the memory of another process",
        "read",
        READ,
        |s| format!("/proc/{}/maps", s.witness.pid()),
        Off::Works,
        &[ACCES],
        &[NOENT]
    ),
    case!(
        "open a file through the root of another process",
        "read",
        READ,
        |s| format!("/proc/{}/root{}", s.witness.pid(), s.outside("canary")),
        Off::Works,
        &[ACCES],
        &[NOENT]
    ),
    case!(
        "list the handles of another process",
        "list",
        READ,
        |s| format!("/proc/{}/fd", s.witness.pid()),
        Off::Works,
        &[ACCES],
        &[NOENT]
    ),
    case!(
        "open the memory of another process itself",
        "open-for-writing",
        READ_WRITE,
        |s| format!("/proc/{}/mem", s.witness.pid()),
        Off::Works,
        &[ACCES],
        &[NOENT]
    ),
    case!(
        "list a directory outside",
        "list",
        READ,
        |s| s.outside(""),
        Off::Works,
        &[ACCES],
        &[NOENT]
    ),
    case!(
        "list the root",
        "list",
        READ,
        |_| "/".into(),
        Off::Works,
        &[ACCES],
        &[ACCES]
    ),
    case!(
        "open a place and open it again",
        "reopen",
        READ,
        |s| s.outside("canary"),
        Off::Works,
        &[ACCES],
        &[NOENT]
    ),
    case!(
        "watch a file outside",
        "watch",
        READ,
        |s| s.outside("canary"),
        Off::Works,
        filtered
    ),
    case!(
        "open from a worker that only computes",
        "read",
        NOTHING,
        |s| s.work("file"),
        Off::Works,
        filtered
    ),
    case!(
        "read in a worker that only writes",
        "read",
        WRITE,
        |_| "file".into(),
        Off::Works,
        &[ACCES],
        &[ACCES]
    ),
    case!(
        "list in a worker that only writes",
        "list",
        WRITE,
        |_| ".".into(),
        Off::Works,
        filtered
    ),
];

/// Changing what may only be read.
const READ_ONLY: &[Case] = &[
    case!(
        "open for writing",
        "open-for-writing",
        READ,
        |_| "file".into(),
        Off::Works,
        &[ACCES],
        &[ROFS]
    ),
    case!(
        "empty a file while opening it",
        "open-truncating",
        READ,
        |_| "file".into(),
        Off::Works,
        &[ACCES],
        &[ROFS]
    ),
    case!(
        "create a file",
        "create",
        READ,
        |_| "new".into(),
        Off::Works,
        &[ACCES],
        &[ROFS]
    ),
    case!(
        "create a file without a name",
        "tmpfile",
        READ,
        |_| ".".into(),
        Off::Works,
        &[ACCES],
        &[ROFS]
    ),
    case!(
        "empty a file",
        "truncate",
        READ,
        |_| "file".into(),
        Off::Works,
        filtered
    ),
    case!(
        "create a directory",
        "mkdir",
        READ,
        |_| "new".into(),
        Off::Works,
        filtered
    ),
    case!(
        "remove a file",
        "unlink",
        READ,
        |_| "file".into(),
        Off::Works,
        filtered
    ),
    case!(
        "rename a file",
        "rename",
        READ,
        |_| "file\nother".into(),
        Off::Works,
        filtered
    ),
    case!(
        "link a file",
        "link",
        READ,
        |_| "file\nother".into(),
        Off::Works,
        filtered
    ),
    case!(
        "make a link",
        "symlink",
        READ,
        |_| "file\nother".into(),
        Off::Works,
        filtered
    ),
    case!(
        "change a mode",
        "chmod",
        READ,
        |_| "file".into(),
        Off::Works,
        filtered
    ),
    case!(
        "change an owner",
        "chown",
        READ,
        |_| "file".into(),
        Off::Works,
        filtered
    ),
    case!(
        "change times",
        "utimes",
        READ,
        |_| "file".into(),
        Off::Works,
        filtered
    ),
    case!(
        "set an attribute",
        "setxattr",
        READ,
        |_| "file".into(),
        Off::Works,
        filtered
    ),
];

/// Changing what is outside, with every right inside.
const OUTSIDE: &[Case] = &[
    case!(
        "overwrite a file outside",
        "overwrite",
        READ_WRITE,
        |s| s.outside("canary"),
        Off::Works,
        &[ACCES],
        &[NOENT]
    ),
    case!(
        "create a file outside",
        "create",
        READ_WRITE,
        |s| s.outside("new"),
        Off::Works,
        &[ACCES],
        &[NOENT]
    ),
    case!(
        "create a directory outside",
        "mkdir",
        READ_WRITE,
        |s| s.outside("new"),
        Off::Works,
        &[ACCES],
        &[NOENT]
    ),
    case!(
        "remove a file outside",
        "unlink",
        READ_WRITE,
        |s| s.outside("canary"),
        Off::Works,
        &[ACCES],
        &[NOENT]
    ),
    case!(
        "move a file in",
        "rename",
        READ_WRITE,
        |s| format!("{}\nmine", s.outside("canary")),
        Off::Works,
        &[ACCES, libc::EXDEV],
        &[NOENT]
    ),
    case!(
        "move a file out",
        "rename",
        READ_WRITE,
        |s| format!("file\n{}", s.outside("yours")),
        Off::Works,
        &[ACCES, libc::EXDEV],
        &[NOENT]
    ),
    case!(
        "write through a link",
        "overwrite",
        READ_WRITE,
        |_| "link-out".into(),
        Off::Works,
        &[ACCES],
        &[NOENT]
    ),
    case!(
        "link a file in",
        "link",
        READ_WRITE,
        |s| format!("{}\nmine", s.outside("canary")),
        Off::Works,
        filtered
    ),
    case!(
        "make a link inside",
        "symlink",
        READ_WRITE,
        |_| "/etc\nmine".into(),
        Off::Works,
        filtered
    ),
    case!(
        "make a FIFO inside",
        "mkfifo",
        READ_WRITE,
        |_| "fifo".into(),
        Off::Works,
        filtered
    ),
    case!(
        "make a device inside",
        "mkdevice",
        READ_WRITE,
        |_| "device".into(),
        Off::WorksForRoot,
        filtered
    ),
    case!(
        "change a mode outside",
        "chmod",
        READ_WRITE,
        |s| s.outside("canary"),
        Off::Works,
        filtered
    ),
    case!(
        "change an owner outside",
        "chown",
        READ_WRITE,
        |s| s.outside("canary"),
        Off::Works,
        filtered
    ),
    case!(
        "change times outside",
        "utimes",
        READ_WRITE,
        |s| s.outside("canary"),
        Off::Works,
        filtered
    ),
    case!(
        "set an attribute outside",
        "setxattr",
        READ_WRITE,
        |s| s.outside("canary"),
        Off::Works,
        filtered
    ),
];

/// Other processes.
const PROCESSES: &[Case] = &[
    case!(
        "make a process (compute)",
        "fork",
        NOTHING,
        |_| String::new(),
        Off::Works,
        filtered
    ),
    case!(
        "make a process (read)",
        "fork",
        READ,
        |_| String::new(),
        Off::Works,
        filtered
    ),
    case!(
        "make a process (write)",
        "fork",
        WRITE,
        |_| String::new(),
        Off::Works,
        filtered
    ),
    case!(
        "make a process (read+write)",
        "fork",
        READ_WRITE,
        |_| String::new(),
        Off::Works,
        filtered
    ),
    case!(
        "make a process (http)",
        "fork",
        crate::world::NET,
        |_| String::new(),
        Off::Works,
        filtered
    ),
    case!(
        "run a program (compute)",
        "execute",
        NOTHING,
        |_| "/nowhere".into(),
        Off::Reaches(&[NOENT]),
        filtered
    ),
    case!(
        "run a program (read)",
        "execute",
        READ,
        |_| "/nowhere".into(),
        Off::Reaches(&[NOENT]),
        filtered
    ),
    case!(
        "run a program (write)",
        "execute",
        WRITE,
        |_| "/nowhere".into(),
        Off::Reaches(&[NOENT]),
        filtered
    ),
    case!(
        "run a program (http)",
        "execute",
        crate::world::NET,
        |_| "/nowhere".into(),
        Off::Reaches(&[NOENT]),
        filtered
    ),
    case!(
        "write the memory of a process",
        "write-memory",
        READ_WRITE,
        |s| format!("{}\n{}", s.witness.pid(), s.witness_address),
        Off::Reaches(&[0, libc::EFAULT]),
        filtered
    ),
    case!(
        "make a thread",
        "thread",
        READ_WRITE,
        |_| String::new(),
        Off::Works,
        &[PERM],
        &[PERM]
    ),
    case!(
        "run a program from memory",
        "execute-memory",
        READ_WRITE,
        |_| String::new(),
        Off::Reaches(&[ACCES, libc::ENOEXEC]),
        filtered
    ),
    case!(
        "run a program that is not there",
        "execute",
        READ_WRITE,
        |_| "/nowhere".into(),
        Off::Reaches(&[NOENT]),
        filtered
    ),
    case!(
        "signal a process",
        "signal",
        READ_WRITE,
        |s| s.witness.pid().to_string(),
        Off::Works,
        filtered
    ),
    case!(
        "signal a thread",
        "signal-thread",
        READ_WRITE,
        |s| format!("{0}\n{0}", s.witness.pid()),
        Off::Works,
        filtered
    ),
    case!(
        "change a limit of a process",
        "limit",
        READ_WRITE,
        |s| s.witness.pid().to_string(),
        Off::Works,
        filtered
    ),
    case!(
        "change the priority of a process",
        "priority",
        READ_WRITE,
        |s| s.witness.pid().to_string(),
        Off::Works,
        filtered
    ),
    case!(
        "pin a process to processors",
        "affinity",
        READ_WRITE,
        |s| s.witness.pid().to_string(),
        Off::Works,
        filtered
    ),
    case!(
        "trace a process",
        "trace",
        READ_WRITE,
        |s| s.witness.pid().to_string(),
        Off::Works,
        filtered
    ),
    case!(
        "read the memory of a process",
        "read-memory",
        READ_WRITE,
        |s| format!("{}\n{}", s.witness.pid(), s.witness_address),
        Off::Reaches(&[0, libc::EFAULT]),
        filtered
    ),
    case!(
        "take a handle of a process",
        "take-handle",
        READ_WRITE,
        |s| s.witness.pid().to_string(),
        Off::Works,
        filtered
    ),
    case!(
        "name a process by a handle",
        "handle-of-process",
        READ_WRITE,
        |s| s.witness.pid().to_string(),
        Off::Works,
        filtered
    ),
];

/// Reaching anybody.
const NETWORK: &[Case] = &[
    case!(
        "connect",
        "connect",
        READ,
        |s| s.port().to_string(),
        Off::Works,
        filtered
    ),
    case!(
        "connect by MPTCP",
        "connect-mptcp",
        READ,
        |s| s.port().to_string(),
        Off::Reaches(&[0, libc::EPROTONOSUPPORT, libc::ENOPROTOOPT]),
        filtered
    ),
    case!(
        "connect by sending",
        "fast-open",
        READ,
        |s| s.port().to_string(),
        Off::Reaches(&[0, libc::EINPROGRESS]),
        filtered
    ),
    case!(
        "connect by sending a message",
        "fast-open-message",
        READ,
        |s| s.port().to_string(),
        Off::Reaches(&[0, libc::EINPROGRESS]),
        filtered
    ),
    case!(
        "send a datagram",
        "send-udp",
        READ,
        |s| s.port().to_string(),
        Off::Works,
        filtered
    ),
    case!(
        "listen without an address",
        "listen",
        READ,
        |_| String::new(),
        Off::Works,
        filtered
    ),
    case!(
        "connect to a unix socket outside",
        "connect-unix",
        READ_WRITE,
        |s| s.outside("socket"),
        Off::Works,
        filtered
    ),
    case!(
        "connect to an abstract unix socket",
        "connect-abstract",
        READ_WRITE,
        |s| s.abstract_name.clone(),
        Off::Works,
        filtered
    ),
    case!(
        "make a TCP socket (http)",
        "socket",
        crate::world::NET,
        |_| inet(libc::SOCK_STREAM, 0),
        Off::Works,
        filtered
    ),
    case!(
        "make a unix socket (http)",
        "socket",
        crate::world::NET,
        |_| format!("{}\n{}\n0", libc::AF_UNIX, libc::SOCK_STREAM),
        Off::Works,
        filtered
    ),
    case!(
        "make an IPv6 socket",
        "socket",
        READ,
        |_| format!("{}\n{}\n0", libc::AF_INET6, libc::SOCK_DGRAM),
        Off::Reaches(&[0, libc::EAFNOSUPPORT]),
        filtered
    ),
    case!(
        "make an SCTP socket",
        "socket",
        READ,
        |_| inet(libc::SOCK_STREAM, libc::IPPROTO_SCTP),
        Off::Reaches(&[0, libc::EPROTONOSUPPORT, libc::ESOCKTNOSUPPORT]),
        filtered
    ),
    case!(
        "make a raw socket",
        "socket",
        READ,
        |_| inet(libc::SOCK_RAW, libc::IPPROTO_ICMP),
        Off::WorksForRoot,
        filtered
    ),
    case!(
        "make a packet socket",
        "socket",
        READ,
        |_| format!("{}\n{}\n0", libc::AF_PACKET, libc::SOCK_RAW),
        Off::ReachesForRoot(&[0, libc::EAFNOSUPPORT]),
        filtered
    ),
    case!(
        "make a netlink socket",
        "socket",
        READ,
        |_| format!("{}\n{}\n0", libc::AF_NETLINK, libc::SOCK_RAW),
        Off::Works,
        filtered
    ),
    case!(
        "make a vsock socket",
        "socket",
        READ,
        |_| format!("{}\n{}\n0", libc::AF_VSOCK, libc::SOCK_STREAM),
        Off::Reaches(&[0, libc::EAFNOSUPPORT, libc::ENODEV]),
        filtered
    ),
    case!(
        "make a crypto socket",
        "socket",
        READ,
        |_| format!("{}\n{}\n0", libc::AF_ALG, libc::SOCK_SEQPACKET),
        Off::Reaches(&[0, libc::EAFNOSUPPORT]),
        filtered
    ),
];

/// Parts of the kernel that no tool needs.
const KERNEL: &[Case] = &[
    case!(
        "io_uring",
        "io-uring",
        READ_WRITE,
        |_| String::new(),
        Off::Reaches(&[0, libc::ENOSYS]),
        filtered
    ),
    case!(
        "bpf",
        "bpf",
        READ_WRITE,
        |_| String::new(),
        Off::ReachesForRoot(&[libc::EINVAL, libc::E2BIG, libc::ENOSYS]),
        filtered
    ),
    case!(
        "perf",
        "perf",
        READ_WRITE,
        |_| String::new(),
        Off::ReachesForRoot(&[libc::EFAULT, libc::EINVAL, libc::ENOSYS]),
        filtered
    ),
    case!(
        "userfaultfd",
        "userfaultfd",
        READ_WRITE,
        |_| String::new(),
        Off::ReachesForRoot(&[libc::EINVAL, libc::ENOSYS]),
        filtered
    ),
    case!(
        "keys",
        "add-key",
        READ_WRITE,
        |_| String::new(),
        Off::Reaches(&[0, libc::ENOSYS]),
        filtered
    ),
    case!(
        "a new user namespace",
        "unshare",
        READ_WRITE,
        |_| String::new(),
        Off::Works,
        filtered
    ),
    case!(
        "another namespace",
        "setns",
        READ_WRITE,
        |_| String::new(),
        Off::Reaches(&[libc::EBADF]),
        filtered
    ),
    case!(
        "mount",
        "mount",
        READ_WRITE,
        |_| String::new(),
        Off::ReachesForRoot(&[libc::EFAULT]),
        filtered
    ),
    case!(
        "clone a mount",
        "open-tree",
        READ_WRITE,
        |_| ".".into(),
        Off::WorksForRoot,
        filtered
    ),
    case!(
        "change the root",
        "pivot-root",
        READ_WRITE,
        |_| String::new(),
        Off::ReachesForRoot(&[libc::EFAULT]),
        filtered
    ),
    case!(
        "chroot",
        "chroot",
        READ_WRITE,
        |_| "sub".into(),
        Off::WorksForRoot,
        filtered
    ),
    case!(
        "open by handle",
        "open-by-handle",
        READ_WRITE,
        |_| String::new(),
        Off::ReachesForRoot(&[libc::EFAULT]),
        filtered
    ),
    case!(
        "shared memory",
        "shared-memory",
        READ_WRITE,
        |_| String::new(),
        Off::Works,
        filtered
    ),
    case!(
        "a message queue",
        "message-queue",
        READ_WRITE,
        |_| String::new(),
        Off::Reaches(&[0, libc::ENOSYS]),
        filtered
    ),
    case!(
        "memory that can be run",
        "executable-memory",
        READ_WRITE,
        |_| String::new(),
        Off::Works,
        filtered
    ),
    case!(
        "the personality",
        "personality",
        READ_WRITE,
        |_| String::new(),
        Off::Works,
        filtered
    ),
    case!(
        "becoming dumpable",
        "dumpable",
        READ_WRITE,
        |_| String::new(),
        Off::Works,
        filtered
    ),
    case!(
        "numbers of x32",
        "x32",
        READ_WRITE,
        |_| String::new(),
        Off::Reaches(&[0, libc::ENOSYS]),
        filtered
    ),
    case!(
        "a call that no kernel knows",
        "no-such-call",
        READ_WRITE,
        |_| String::new(),
        Off::Reaches(&[libc::ENOSYS]),
        filtered
    ),
    case!(
        "typing on the terminal",
        "type-on-terminal",
        READ_WRITE,
        |_| String::new(),
        Off::Reaches(&[libc::ENOTTY, libc::EFAULT, libc::EIO, PERM]),
        filtered
    ),
];

/// Existence and size of files outside are visible at level l1; Landlock does not cover it.
const KNOWN_HOLES_AT_L1: &[Case] = &[
    case!(
        "look at a file outside",
        "stat",
        READ,
        |s| s.outside("canary"),
        Off::Works,
        &[0],
        &[NOENT]
    ),
    case!(
        "look at the parent",
        "stat",
        READ,
        |_| "..".into(),
        Off::Works,
        &[0],
        &[0]
    ),
];

const GROUPS: [&[Case]; 7] = [
    READING,
    READ_ONLY,
    OUTSIDE,
    PROCESSES,
    NETWORK,
    KERNEL,
    KNOWN_HOLES_AT_L1,
];

fn inet(kind: i32, protocol: i32) -> String {
    format!("{}\n{kind}\n{protocol}", libc::AF_INET)
}

/// Makes one attack in a fresh scene. The answer is an error number, 0 for success, or what went wrong.
async fn attack(host: &WorkerHost, case: &Case) -> Result<i32, String> {
    let scene = Scene::new();
    let input = (case.input)(&scene);
    let call = Call::new(case.tool, input, case.worker, &scene.tree.path("work"));
    let answer = call.run(host).await.map_err(|error| error.to_string());
    // A worker that traces the witness would keep it from being collected.
    host.end_idle_workers(&AgentName::new(AGENT).expect("a name"));
    let answer = answer?;
    // A success of a reading attack has to have read what is not ours, or it proves nothing.
    if case.tool == "read" && answer.starts_with("ok ") {
        let content = &answer[3..];
        let is_foreign =
            content.contains(SECRET) || content.contains("root:") || !content.contains(INSIDE);
        assert!(
            is_foreign || case.worker != READ,
            "{}: read {content:?}",
            case.name
        );
    }
    match answer.split_once(' ') {
        Some(("ok", _)) => Ok(0),
        Some(("errno", number)) => number.parse().map_err(|_| answer.clone()),
        _ => Err(answer),
    }
}

fn expected_off(case: &Case) -> Option<&'static [i32]> {
    match case.off {
        Off::Works => Some(&[0]),
        Off::WorksForRoot if is_root() => Some(&[0]),
        Off::Reaches(errnos) => Some(errnos),
        Off::ReachesForRoot(errnos) if is_root() => Some(errnos),
        Off::WorksForRoot | Off::ReachesForRoot(_) => None,
    }
}

/// All attacks at one level; the names of those that did not end as expected.
async fn run_all(
    host: &WorkerHost,
    expected: impl Fn(&Case) -> Option<&'static [i32]>,
) -> Vec<String> {
    let mut wrong = Vec::new();
    for case in GROUPS.iter().copied().flatten() {
        let Some(expected) = expected(case) else {
            continue;
        };
        match attack(host, case).await {
            Ok(errno) if expected.contains(&errno) => {}
            other => wrong.push(format!("{}: {other:?} instead of {expected:?}", case.name)),
        }
    }
    wrong
}

fn check(choice: LevelChoice, expected: impl Fn(&Case) -> Option<&'static [i32]>) {
    let scratch = Tree::new();
    let host = scratch.host(choice);
    let wrong = block_on(run_all(&host, expected));
    assert!(wrong.is_empty(), "{choice:?}:\n{}", wrong.join("\n"));
}

pub fn every_attack_succeeds_with_the_sandbox_off() {
    check(LevelChoice::OperatorOptOut, expected_off);
}

pub fn every_attack_is_refused_at_level_l1() {
    check(LevelChoice::ForcedL1, |case| Some(case.l1));
}

pub fn every_attack_is_refused_at_level_l2() {
    check(LevelChoice::ForcedL2, |case| Some(case.l2));
}

/// Nothing that the sandbox answers is what the kernel answers without it.
pub fn no_attack_passes_by_accident() {
    for case in GROUPS.iter().copied().flatten() {
        let off: &[i32] = match case.off {
            Off::Works | Off::WorksForRoot => &[0],
            Off::Reaches(errnos) | Off::ReachesForRoot(errnos) => errnos,
        };
        let is_known_hole = case.l1 == [0] || case.name == "typing on the terminal";
        for errno in off {
            assert!(
                is_known_hole || !case.l1.contains(errno),
                "{} is the same with and without the sandbox",
                case.name
            );
        }
    }
}
