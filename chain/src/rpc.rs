//! Calls over RPC: the only file that names `bitcoincore-rpc`.
//!
//! That client is synchronous, so each call runs on a blocking thread. Its own types for answers
//! follow particular releases; `answers.rs` reads the few fields that matter here.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use bitcoincore_rpc::jsonrpc::{self, simple_http};
use bitcoincore_rpc::{Auth, Client, RpcApi};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::Mutex;

use crate::ChainError;

/// RPC error: there is no wallet of that name (`RPC_WALLET_NOT_FOUND`).
const CODE_NO_WALLET: i32 = -18;
/// RPC error: there are several wallets and none is named (`RPC_WALLET_NOT_SPECIFIED`).
const CODE_UNCLEAR_WALLET: i32 = -19;
/// RPC error: the node is starting (`RPC_IN_WARMUP`).
const CODE_STARTING: i32 = -28;

/// How a node lets this program in.
#[derive(Clone, PartialEq, Eq)]
pub enum Access {
    /// By the cookie file that the node writes at each start.
    Cookie(PathBuf),
    /// By name and password.
    Password {
        /// The name.
        user: String,
        /// The password.
        password: String,
    },
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cookie(path) => f.debug_tuple("Cookie").field(path).finish(),
            Self::Password { user, .. } => {
                f.debug_struct("Password").field("user", user).finish_non_exhaustive()
            }
        }
    }
}

/// A bitcoind, and one of its wallets.
#[derive(Clone, Debug)]
pub struct Bitcoind {
    url: Arc<str>,
    access: Access,
    /// Held while coins are picked, so that two fundings do not pick the same.
    pub(crate) picking: Arc<Mutex<()>>,
}

impl Bitcoind {
    /// Makes a client of the node at `url`, such as `http://127.0.0.1:8332`. Nothing is sent yet.
    ///
    /// With `wallet`, calls about coins go to the wallet of that name.
    #[must_use]
    pub fn new(url: &str, wallet: Option<&str>, access: Access) -> Self {
        let url = url.trim_end_matches('/');
        let url = wallet.map_or_else(|| url.to_owned(), |name| format!("{url}/wallet/{name}"));
        Self { url: url.into(), access, picking: Arc::default() }
    }

    /// Calls any method of the node.
    ///
    /// # Errors
    /// [`ChainError`] when the node does not answer, refuses, or answers otherwise.
    pub async fn call<T: DeserializeOwned + Send + 'static>(
        &self,
        method: &'static str,
        arguments: Value,
    ) -> Result<T, ChainError> {
        let (url, access) = (Arc::clone(&self.url), self.access.clone());
        let unexpected =
            |reason: String| ChainError::Unexpected { method: method.to_owned(), reason };
        let called = tokio::task::spawn_blocking(move || call(&url, access, method, arguments));
        let answer = called.await.map_err(|error| unexpected(error.to_string()))??;
        serde_json::from_value(answer).map_err(|error| unexpected(error.to_string()))
    }
}

/// Calls a method of the node at `url`. The cookie is read each time: a restart changes it.
fn call(url: &str, access: Access, method: &str, arguments: Value) -> Result<Value, ChainError> {
    let unreachable = |reason: String| ChainError::Unreachable { url: url.to_owned(), reason };
    let (user, password) = credentials(access)?;
    let auth = Auth::UserPass(user, password);
    let client = Client::new(url, auth).map_err(|error| unreachable(error.to_string()))?;
    let Value::Array(arguments) = arguments else {
        return Err(unreachable("arguments are a list".to_owned()));
    };
    client.call(method, &arguments).map_err(|error| explain(url, method, error))
}

/// Returns the name and password that let this program in.
fn credentials(access: Access) -> Result<(String, String), ChainError> {
    match access {
        Access::Password { user, password } => Ok((user, password)),
        Access::Cookie(path) => {
            let unreadable =
                |path, reason: &str| ChainError::NoCookie { path, reason: reason.to_owned() };
            let cookie = fs::read_to_string(&path)
                .map_err(|error| unreadable(path.clone(), &error.to_string()))?;
            let (user, password) = cookie
                .trim()
                .split_once(':')
                .ok_or_else(|| unreadable(path, "it holds no name and password"))?;
            Ok((user.to_owned(), password.to_owned()))
        }
    }
}

/// Sorts the errors of the RPC client.
fn explain(url: &str, method: &str, error: bitcoincore_rpc::Error) -> ChainError {
    let url = url.to_owned();
    match error {
        bitcoincore_rpc::Error::JsonRpc(jsonrpc::Error::Rpc(refused)) => match refused.code {
            CODE_STARTING => ChainError::Starting(refused.message),
            CODE_NO_WALLET | CODE_UNCLEAR_WALLET => ChainError::NoWallet(refused.message),
            code => ChainError::Refused { code, message: refused.message },
        },
        bitcoincore_rpc::Error::JsonRpc(jsonrpc::Error::Transport(error)) => {
            match error.downcast_ref::<simple_http::Error>() {
                Some(simple_http::Error::HttpErrorCode(401 | 403)) => {
                    ChainError::Unauthorized { url }
                }
                _ => ChainError::Unreachable { url, reason: error.to_string() },
            }
        }
        other => ChainError::Unexpected { method: method.to_owned(), reason: other.to_string() },
    }
}
