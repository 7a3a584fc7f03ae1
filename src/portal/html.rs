//! HTML text that cannot be broken out of: what is written as markup is fixed at compile time, everything
//! else is escaped.

/// A piece of HTML under construction.
#[derive(Clone, Debug, Default)]
pub(super) struct Html(String);

impl Html {
    pub(super) fn new() -> Html {
        Html::default()
    }

    /// Markup. `'static` keeps data out of here.
    pub(super) fn raw(&mut self, markup: &'static str) -> &mut Html {
        self.0.push_str(markup);
        self
    }

    /// Data: shown as the characters it consists of, in an element or in a quoted attribute.
    pub(super) fn text(&mut self, data: &str) -> &mut Html {
        for c in data.chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                _ => self.0.push(c),
            }
        }
        self
    }

    /// ` name="data"`.
    pub(super) fn attr(&mut self, name: &'static str, data: &str) -> &mut Html {
        self.raw(" ").raw(name).raw("=\"").text(data).raw("\"")
    }

    pub(super) fn add(&mut self, piece: &Html) -> &mut Html {
        self.0.push_str(&piece.0);
        self
    }

    /// The template with `{name}` replaced by the piece; the rest of the template is text.
    pub(super) fn fill(&mut self, template: &str, name: &str, piece: &Html) -> &mut Html {
        match template.split_once(&format!("{{{name}}}")) {
            Some((before, after)) => self.text(before).add(piece).text(after),
            None => self.text(template),
        }
    }

    pub(super) fn into_string(self) -> String {
        self.0
    }
}

/// In the markup of a page that is written with maud.
impl maud::Render for Html {
    fn render_to(&self, buffer: &mut String) {
        buffer.push_str(&self.0);
    }
}

impl From<maud::Markup> for Html {
    fn from(markup: maud::Markup) -> Html {
        Html(markup.into_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_cannot_become_markup() {
        let mut html = Html::new();
        html.raw("<a").attr("href", "\"'><script>&").raw(">").text("</a><b>").raw("</a>");
        assert_eq!(
            html.into_string(),
            "<a href=\"&quot;&#39;&gt;&lt;script&gt;&amp;\">&lt;/a&gt;&lt;b&gt;</a>"
        );
    }

    #[test]
    fn a_template_is_text_around_its_piece() {
        let mut piece = Html::new();
        piece.raw("<b>").text("<5>").raw("</b>");
        let mut html = Html::new();
        html.fill("a & {n} < b", "n", &piece);
        assert_eq!(html.into_string(), "a &amp; <b>&lt;5&gt;</b> &lt; b");
    }
}
