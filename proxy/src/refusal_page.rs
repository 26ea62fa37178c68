//! The page that people get where a program gets a problem document: what happened, in plain words.

/// What a page says.
pub(crate) struct RefusalPage<'a> {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The reason, as the contract names it.
    pub(crate) reason: &'a str,
    /// The title of the problem document, for a reason without plain words.
    pub(crate) title: &'a str,
    /// The detail of the problem document, likewise.
    pub(crate) detail: &'a str,
    /// The request's id, to ask the operator about.
    pub(crate) request_id: &'a str,
    /// The URL of whoever has the request blocked (RFC 7725).
    pub(crate) blocked_by: Option<&'a str>,
}

impl RefusalPage<'_> {
    /// Writes the page: one document, which loads nothing.
    pub(crate) fn html(&self) -> String {
        let (title, words) = plain_words(self.reason).unwrap_or((self.title, self.detail));
        let mut page = String::with_capacity(TEMPLATE.len() + 512);
        // Every other piece is the name of a value.
        for (index, piece) in TEMPLATE.split("%%").enumerate() {
            if index % 2 == 0 {
                page.push_str(piece);
                continue;
            }
            match piece {
                "status" => page.push_str(&self.status.to_string()),
                "title" => escape(title, &mut page),
                "words" => escape(words, &mut page),
                "reason" => escape(self.reason, &mut page),
                "request_id" => escape(self.request_id, &mut page),
                "blocked_by" => self.blocked_by.into_iter().for_each(|url| link(url, &mut page)),
                _ => {}
            }
        }
        page
    }
}

fn link(url: &str, page: &mut String) {
    page.push_str("\n<dt>Required by</dt><dd><a rel=\"blocked-by\" href=\"");
    escape(url, page);
    page.push_str("\">");
    escape(url, page);
    page.push_str("</a></dd>");
}

/// Returns the title and the words for people; `None` where those of the problem document are plain enough.
fn plain_words(reason: &str) -> Option<(&'static str, &'static str)> {
    Some(match reason {
        "residency_prohibited" => (
            "Unavailable for legal reasons",
            "The rules on where your data may be handled leave no place from which this service could answer you. \
             Your request was not passed on.",
        ),
        "residency_unavailable" => (
            "Back soon",
            "The places where your data may be handled cannot be reached right now, and it is not sent anywhere else. \
             Please try again in a little while.",
        ),
        "table_expired" => (
            "Back soon",
            "This service cannot tell right now where your data may be handled, and does not guess. \
             Please try again in a little while.",
        ),
        "revoked" => (
            "Please try again",
            "The rules on where your data may be handled have just changed, and your request was stopped on its way.",
        ),
        "unavailable" => ("Back soon", "The service cannot be reached right now. Please try again in a little while."),
        "emergency_route_off" => (
            "Switched off for now",
            "This part of the service is switched off while a problem is being dealt with. Please try again later.",
        ),
        "emergency_read_only" => (
            "Read-only for now",
            "You can look at everything, but nothing can be changed while a problem is being dealt with. What you sent was \
             not taken. Please try again later.",
        ),
        "emergency_shed" => (
            "Not available right now",
            "While a problem is being dealt with, only the most important requests are answered. Please try again later.",
        ),
        "overloaded" => (
            "Very busy right now",
            "More requests are coming in than can be answered. Please try again in a little while.",
        ),
        "client_limit" => (
            "One moment, please",
            "Too much is being asked for from your connection at once. Please try again in a little while.",
        ),
        "upstream_failed" => (
            "Something went wrong",
            "The service failed to answer. It may have received your request: before you repeat an order or a \
             payment, look whether it went through.",
        ),
        "upstream_timeout" => (
            "No answer in time",
            "The service took too long to answer. It may have received your request: before you repeat an order or a \
             payment, look whether it went through.",
        ),
        "no_route" => ("Page not found", "There is nothing at this address. It may have a typing error in it."),
        "misdirected" => ("Please reload", "Your browser has asked for this page on a connection to another site."),
        _ => return None,
    })
}

/// Writes a text so that it is one in HTML, between tags and in attributes.
fn escape(text: &str, page: &mut String) {
    for letter in text.chars() {
        match letter {
            '&' => page.push_str("&amp;"),
            '<' => page.push_str("&lt;"),
            '>' => page.push_str("&gt;"),
            '"' => page.push_str("&quot;"),
            '\'' => page.push_str("&#39;"),
            letter => page.push(letter),
        }
    }
}

/// Names of values stand between `%%`.
const TEMPLATE: &str = include_str!("refusal_page/page.html");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_its_values_escaped_and_loads_nothing() {
        let page = RefusalPage {
            status: 400,
            reason: "bad_request",
            title: "Bad request",
            detail: "%%status%% <script>alert('&')</script>",
            request_id: "a\"b",
            blocked_by: Some("https://example.com/?a&b"),
        };
        let html = page.html();
        assert!(html.contains("<p>%%status%% &lt;script&gt;alert(&#39;&amp;&#39;)&lt;/script&gt;</p>"), "{html}");
        assert!(html.contains("<title>Bad request</title>") && html.contains("<h1>Bad request</h1>"), "{html}");
        assert!(html.contains("<dd>a&quot;b</dd>") && html.contains("href=\"https://example.com/?a&amp;b\""), "{html}");
        let plain = RefusalPage { blocked_by: None, detail: "", ..page }.html();
        assert!(!plain.contains("%%") && !plain.contains("http") && !plain.contains("url("), "{plain}");
    }
}
