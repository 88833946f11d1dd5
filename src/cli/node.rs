//! The options that say where a client's coins and channels are.

use std::env;
use std::error::Error;
use std::fs;
use std::path::PathBuf;

use clap::Args;
use farebox_chain::{Access, Bitcoind};
use farebox_client::ChannelFile;

/// The node that tells of the chain.
#[derive(Debug, Args)]
pub(super) struct NodeArguments {
    /// Where bitcoind answers
    #[arg(
        long,
        value_name = "URL",
        env = "FAREBOX_BITCOIND_URL",
        default_value = "http://127.0.0.1:8332"
    )]
    bitcoind_url: String,
    /// The cookie file of bitcoind
    #[arg(
        long,
        value_name = "FILE",
        env = "FAREBOX_COOKIE_FILE",
        conflicts_with_all = ["rpc_user", "rpc_password"]
    )]
    cookie_file: Option<PathBuf>,
    /// The name that bitcoind knows, instead of a cookie file
    #[arg(long, value_name = "NAME", env = "FAREBOX_RPC_USER", requires = "rpc_password")]
    rpc_user: Option<String>,
    /// The password for that name
    #[arg(
        long,
        value_name = "PASSWORD",
        env = "FAREBOX_RPC_PASSWORD",
        hide_env_values = true,
        requires = "rpc_user"
    )]
    rpc_password: Option<String>,
}

/// The wallet of the node.
#[derive(Debug, Args)]
pub(super) struct WalletArguments {
    /// The wallet of bitcoind that pays [default: your own, or the only one that is loaded]
    /// [env: `FAREBOX_WALLET`]
    // The variable is read below: what is set for all runs is no contradiction to another option.
    #[arg(long, value_name = "NAME")]
    wallet: Option<String>,
}

impl WalletArguments {
    /// Returns the wallet that is named: by the option, or by the variable.
    pub(super) fn name(&self) -> Option<String> {
        self.wallet.clone().or_else(|| env::var("FAREBOX_WALLET").ok())
    }
}

impl NodeArguments {
    /// Returns the node, with the wallet of it that is named or the only one.
    pub(super) fn node(&self, wallet: Option<&str>) -> Result<Bitcoind, Box<dyn Error>> {
        let access = match (&self.cookie_file, &self.rpc_user, &self.rpc_password) {
            (Some(path), _, _) => Access::Cookie(path.clone()),
            (None, Some(user), Some(password)) => {
                Access::Password { user: user.clone(), password: password.clone() }
            }
            _ => Access::Cookie(home()?.join(".bitcoin/.cookie")),
        };
        Ok(Bitcoind::new(&self.bitcoind_url, wallet, access))
    }
}

/// The file of a client's channels.
#[derive(Debug, Args)]
pub(super) struct FileArguments {
    /// The file with your channels and their keys [default: in your data folder]
    #[arg(long, global = true, value_name = "FILE", env = "FAREBOX_CHANNELS")]
    channels: Option<PathBuf>,
}

impl FileArguments {
    /// Opens the file.
    pub(super) fn open(&self) -> Result<ChannelFile, Box<dyn Error>> {
        let path = match &self.channels {
            Some(path) => path.clone(),
            None => {
                let folder = data_folder()?.join("farebox");
                fs::create_dir_all(&folder)
                    .map_err(|error| format!("{}: {error}", folder.display()))?;
                folder.join("channels.sqlite")
            }
        };
        Ok(ChannelFile::open(&path)?)
    }
}

/// Returns the folder for a person's data (XDG Base Directory Specification).
fn data_folder() -> Result<PathBuf, Box<dyn Error>> {
    match env::var_os("XDG_DATA_HOME").filter(|folder| !folder.is_empty()) {
        Some(folder) => Ok(folder.into()),
        None => Ok(home()?.join(".local/share")),
    }
}

fn home() -> Result<PathBuf, Box<dyn Error>> {
    Ok(env::var_os("HOME").ok_or("the variable HOME is not set")?.into())
}
