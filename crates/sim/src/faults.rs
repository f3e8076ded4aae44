//! What can go wrong, and how often it does in the world of one seed.
//!
//! Each seed draws a *swarm*: which faults exist at all and how frequent each is. Worlds with a few frequent
//! faults find what worlds with all faults at once hide, and the other way round.
//!
//! Invariant: asking for a fault that is off draws as many numbers as asking for one that is on.

use std::collections::BTreeSet;
use std::fmt;

use crate::chance::Draw;

macro_rules! fault_kinds {
    ($($(#[$doc:meta])* $name:ident = [$($permille:literal),+],)+) => {
        /// One kind of fault.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum FaultKind {
            $($(#[$doc])* $name,)+
        }

        impl FaultKind {
            /// All kinds.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// How often in a thousand occasions, in worlds where it exists: one of these.
            const fn rates(self) -> &'static [u32] {
                match self {
                    $(Self::$name => &[$($permille),+],)+
                }
            }
        }
    };
}

fault_kinds! {
    // The provider.
    /// A call fails before its first byte.
    CallFails = [20, 100, 400],
    /// A reply breaks off.
    StreamCut = [20, 100, 400],
    /// A reply stands still until the client gives up.
    Stall = [10, 50, 200],
    /// Answers go on after the call was dropped.
    LateAnswer = [300, 1_000],
    /// An answer comes twice.
    RepeatedAnswer = [50, 300],
    /// An answer names an effect that is not open.
    WrongEffect = [50, 300],
    /// The blocks of a reply arrive out of order.
    ShuffledBlocks = [50, 300],
    /// A reply ends without a usage record.
    MissingUsage = [30, 300],
    /// A usage record says that a reply with content had no output.
    ImpossibleUsage = [30, 200],
    /// The provider bills more output than it was allowed to make.
    OverBilling = [5, 50],
    /// Another model answers.
    OtherModel = [30, 300],
    // The model.
    /// The input of a call is not a JSON object.
    InvalidInput = [30, 200],
    /// A call names a tool that does not exist.
    UnknownTool = [30, 200],
    /// A call repeats the id of another.
    DoubledId = [30, 200],
    /// A reply wants more output than it gets.
    LongReply = [50, 300],
    /// The provider refuses.
    Refusal = [10, 60],
    /// The provider pauses a turn.
    Pause = [20, 150],
    /// A reply has no blocks.
    EmptyReply = [20, 150],
    /// A reply has a text block without text.
    EmptyText = [50, 300],
    /// A reply ends for a reason nobody knows.
    UnknownStop = [5, 40],
    /// A reply with calls ends as if it had none.
    WrongStop = [20, 150],
    /// The model makes the same call again and again.
    Loop = [50, 300],
    // Tools.
    /// A tool fails, is denied or takes too long.
    ToolFails = [50, 300],
    /// A tool does not end, whatever is said to it.
    ToolStuck = [5, 50],
    /// A tool cannot work at all.
    OperatorFault = [5, 30],
    /// A tool returns a text that fills a good part of the window.
    LongResult = [20, 150],
    /// A tool's result comes twice.
    RepeatedResult = [50, 300],
    // The store.
    /// The store takes seconds to answer.
    SlowStore = [30, 300],
    /// The store never answers a reservation.
    SilentStore = [2, 20],
    /// The store fails a write.
    StoreFails = [2, 20],
    // The process.
    /// Otto dies between two effects; what was not synced is lost.
    Crash = [2, 6, 20],
    /// One AgentServer dies between two effects and is restarted.
    Panic = [2, 10, 40],
    /// Coming back is interrupted at once.
    CrashInRecovery = [100, 500],
    /// One AgentServer stands still for long; others take its hold for dead.
    Freeze = [2, 10],
    /// Another process takes a session over while its owner stands still.
    Takeover = [2, 10],
    /// The clock jumps while Otto is down.
    ClockJump = [500],
    /// An invocation whose process died is never taken up again.
    Abandon = [50, 300],
    // People and limits.
    /// Somebody cancels.
    Cancel = [50, 300],
    /// The kill switch is thrown, and lifted later.
    KillSwitch = [500],
    /// Otto shuts down and starts again.
    Shutdown = [500],
    /// Money limits within reach.
    TightMoney = [50, 200, 600],
    /// Token limits within reach.
    TightTokens = [50, 200, 600],
    /// Time limits within reach.
    TightTime = [200, 800],
    /// Turn limits within reach.
    TightTurns = [200, 800],
    /// A stopped invocation is taken up again with a raised limit.
    Raise = [500, 900],
    /// Midnight comes while invocations run.
    DayRollover = [1_000],
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// How often each fault happens here, and how often it has.
#[derive(Debug, Clone)]
pub(crate) struct Faults {
    permille: Vec<u32>,
    counts: Vec<u64>,
    /// Whether faults happen now; off at the end, when everything has to come to rest.
    active: bool,
}

/// One seed in this many has no fault at all.
const CALM_ONE_IN: u64 = 12;

impl Faults {
    pub(crate) fn draw(seed: u64, without: &BTreeSet<FaultKind>) -> Self {
        let mut draw = Draw::stream(seed, 1, 0);
        let is_calm = draw.below(CALM_ONE_IN) == 0;
        let share = *draw.pick(&[150, 400, 700]);
        let permille = FaultKind::ALL
            .iter()
            .map(|kind| {
                let exists = draw.happens(share);
                let rate = *draw.pick(kind.rates());
                if exists && !is_calm && !without.contains(kind) {
                    rate
                } else {
                    0
                }
            })
            .collect();
        Self {
            permille,
            counts: vec![0; FaultKind::ALL.len()],
            active: true,
        }
    }

    /// Whether a fault happens on this occasion; counts it if so.
    pub(crate) fn strikes(&mut self, kind: FaultKind, draw: &mut Draw) -> bool {
        self.strikes_if(true, kind, draw)
    }

    /// The same where only some occasions count; the others draw as many numbers.
    pub(crate) fn strikes_if(&mut self, counts: bool, kind: FaultKind, draw: &mut Draw) -> bool {
        let strikes = draw.happens(self.permille[kind as usize]) && self.active && counts;
        if strikes {
            self.counts[kind as usize] += 1;
        }
        strikes
    }

    /// Whether a fault exists in this world.
    pub(crate) fn exists(&self, kind: FaultKind) -> bool {
        self.permille[kind as usize] > 0
    }

    /// Whether no fault exists in this world.
    pub(crate) fn is_calm(&self) -> bool {
        self.permille.iter().all(|rate| *rate == 0)
    }

    /// From here on nothing goes wrong any more.
    pub(crate) fn stop(&mut self) {
        self.active = false;
    }

    pub(crate) fn are_active(&self) -> bool {
        self.active
    }

    pub(crate) fn existing(&self) -> BTreeSet<FaultKind> {
        FaultKind::ALL
            .iter()
            .copied()
            .filter(|kind| self.exists(*kind))
            .collect()
    }

    pub(crate) fn counts(&self) -> impl Iterator<Item = (FaultKind, u64)> {
        FaultKind::ALL
            .iter()
            .copied()
            .zip(self.counts.iter().copied())
    }
}
