//! A set of flags over an integer, written as a table.

/// Declares a set type with named members, `|` and `contains`.
macro_rules! bitmask {
    (
        $(#[$doc:meta])*
        $name:ident: $int:ty { $($member:ident = $value:expr,)* }
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
        pub(crate) struct $name($int);

        #[allow(dead_code, reason = "a table is whole even where one member has no user yet")]
        impl $name {
            pub(crate) const NONE: Self = Self(0);
            $(pub(crate) const $member: Self = Self($value);)*

            /// Whether every member of `other` is in this set.
            pub(crate) const fn contains(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }

            /// This set and `other`.
            pub(crate) const fn with(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }

            /// This set without `other`.
            pub(crate) const fn without(self, other: Self) -> Self {
                Self(self.0 & !other.0)
            }
        }

        impl std::ops::BitOr for $name {
            type Output = Self;

            fn bitor(self, other: Self) -> Self {
                self.with(other)
            }
        }
    };
}
