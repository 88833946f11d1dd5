//! Building a request as with `reqwest`. Sending it pays for it.

use std::fmt::{self, Display};
use std::future::IntoFuture;
use std::pin::Pin;
use std::time::Duration;

use farebox_chain::{Chain, Wallet};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Body, IntoUrl, Method, Request, Response, Version};
use serde::Serialize;

use crate::error::PayError;
use crate::paying::PayingClient;

/// A request of a [`PayingClient`], built as with [`reqwest::RequestBuilder`].
///
/// It is sent by [`RequestBuilder::send`], or by waiting for it.
#[must_use = "a request is sent by `send`, or by waiting for it"]
pub struct RequestBuilder<B> {
    client: PayingClient<B>,
    inner: reqwest::RequestBuilder,
}

impl<B: Chain + Wallet> PayingClient<B> {
    /// Begins a request.
    pub fn request(&self, method: Method, url: impl IntoUrl) -> RequestBuilder<B> {
        RequestBuilder { client: self.clone(), inner: self.http.request(method, url) }
    }

    /// Begins a GET.
    pub fn get(&self, url: impl IntoUrl) -> RequestBuilder<B> {
        self.request(Method::GET, url)
    }

    /// Begins a POST.
    pub fn post(&self, url: impl IntoUrl) -> RequestBuilder<B> {
        self.request(Method::POST, url)
    }

    /// Begins a PUT.
    pub fn put(&self, url: impl IntoUrl) -> RequestBuilder<B> {
        self.request(Method::PUT, url)
    }

    /// Begins a PATCH.
    pub fn patch(&self, url: impl IntoUrl) -> RequestBuilder<B> {
        self.request(Method::PATCH, url)
    }

    /// Begins a DELETE.
    pub fn delete(&self, url: impl IntoUrl) -> RequestBuilder<B> {
        self.request(Method::DELETE, url)
    }

    /// Begins a HEAD.
    pub fn head(&self, url: impl IntoUrl) -> RequestBuilder<B> {
        self.request(Method::HEAD, url)
    }
}

impl<B: Chain + Wallet> RequestBuilder<B> {
    fn map(self, change: impl FnOnce(reqwest::RequestBuilder) -> reqwest::RequestBuilder) -> Self {
        Self { inner: change(self.inner), client: self.client }
    }

    /// Adds a field.
    pub fn header<K, V>(self, name: K, value: V) -> Self
    where
        HeaderName: TryFrom<K>,
        <HeaderName as TryFrom<K>>::Error: Into<http::Error>,
        HeaderValue: TryFrom<V>,
        <HeaderValue as TryFrom<V>>::Error: Into<http::Error>,
    {
        self.map(|inner| inner.header(name, value))
    }

    /// Sets fields, in the place of those with the same names.
    pub fn headers(self, headers: HeaderMap) -> Self {
        self.map(|inner| inner.headers(headers))
    }

    /// Names the request, so that it is sent again where it is not known what has come of it, and
    /// paid once: it is the `Idempotency-Key`.
    pub fn idempotency_key(self, key: &str) -> Self {
        self.header(crate::again::KEY, key)
    }

    /// Sets basic authentication.
    pub fn basic_auth(self, user: impl Display, password: Option<impl Display>) -> Self {
        self.map(|inner| inner.basic_auth(user, password))
    }

    /// Sets bearer authentication.
    pub fn bearer_auth(self, token: impl Display) -> Self {
        self.map(|inner| inner.bearer_auth(token))
    }

    /// Sets the body. One that is a stream has no copy: it is held back until the price is known,
    /// for a moment, and is never sent again.
    pub fn body(self, body: impl Into<Body>) -> Self {
        self.map(|inner| inner.body(body))
    }

    /// Sets a body of JSON.
    pub fn json<T: Serialize + ?Sized>(self, json: &T) -> Self {
        self.map(|inner| inner.json(json))
    }

    /// Sets a body as a form has it.
    pub fn form<T: Serialize + ?Sized>(self, form: &T) -> Self {
        self.map(|inner| inner.form(form))
    }

    /// Adds to the query of the URL.
    pub fn query<T: Serialize + ?Sized>(self, query: &T) -> Self {
        self.map(|inner| inner.query(query))
    }

    /// Limits how long each sending may take, until the answer's body has ended.
    pub fn timeout(self, timeout: Duration) -> Self {
        self.map(|inner| inner.timeout(timeout))
    }

    /// Sets the version of HTTP.
    pub fn version(self, version: Version) -> Self {
        self.map(|inner| inner.version(version))
    }

    /// Changes it in a way that has no method here, such as with a feature of `reqwest`.
    pub fn with(
        self,
        change: impl FnOnce(reqwest::RequestBuilder) -> reqwest::RequestBuilder,
    ) -> Self {
        self.map(change)
    }

    /// Returns a copy, unless the body is a stream.
    #[must_use]
    pub fn try_clone(&self) -> Option<Self> {
        Some(Self { inner: self.inner.try_clone()?, client: self.client.clone() })
    }

    /// Returns the request, for [`PayingClient::execute`].
    ///
    /// # Errors
    /// [`PayError::Http`] when the URL, a field or the body is none.
    pub fn build(self) -> Result<Request, PayError> {
        Ok(self.inner.build()?)
    }

    /// Sends the request, and pays for it if need be.
    ///
    /// # Errors
    /// [`PayError`] when there is no answer that was paid for, as [`PayingClient::execute`].
    pub async fn send(self) -> Result<Response, PayError> {
        let request = self.inner.build()?;
        self.client.execute(request).await
    }
}

impl<B: Chain + Wallet> IntoFuture for RequestBuilder<B> {
    type Output = Result<Response, PayError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

impl<B> fmt::Debug for RequestBuilder<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RequestBuilder").field(&self.inner).finish()
    }
}
