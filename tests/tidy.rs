//! Goal: the tree stays what its documents say that it is: who may import whom, what nobody may
//! call and what to use instead, how files look, and that nothing in it is unreachable or dangling.
//! Method: every rule is a function from files to offences. It is run on the tracked files, and on
//! snippets that it must refuse, so that no rule is green because it looks at nothing.

#[path = "tidy/arrows.rs"]
mod arrows;
#[path = "tidy/calls.rs"]
mod calls;
#[path = "tidy/documents.rs"]
mod documents;
#[path = "tidy/forbidden_arrows.rs"]
mod forbidden_arrows;
#[path = "tidy/modules.rs"]
mod modules;
#[path = "tidy/paths.rs"]
mod paths;
#[path = "tidy/shape.rs"]
mod shape;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/tree.rs"]
mod tree;
#[path = "tidy/words.rs"]
mod words;
