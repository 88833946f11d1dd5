//! What a gateway promises to whoever stands before it, asked over real sockets: with curl, where a
//! client that is not ours can do it.

mod access_log;
mod api;
mod asked_prices;
mod asked_quotes;
mod check;
mod cors;
mod curl;
mod gate;
mod health;
mod paths;
mod price_list;
mod price_service;
mod prices;
mod quotes;
mod reload;
mod routing;
mod slow_api;
mod stop;
mod systemd;
mod trace;
