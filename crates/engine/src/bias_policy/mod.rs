//! A bias policy: where it applies and what it said last.
