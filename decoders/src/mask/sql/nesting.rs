//! Brackets, commas and what else stands alone in a statement: which values belong to which names.

use super::*;

impl Reader<'_> {
    pub(super) fn symbol(&mut self, symbol: u8, token: Token) {
        match symbol {
            b'(' | b'[' => return self.open(symbol),
            b')' | b']' => return self.close(),
            b',' => {
                if let Some((_, index)) = &mut self.frame().positions {
                    *index += 1;
                }
                self.names = None;
                self.reset();
                return;
            }
            b';' => {
                let spans = std::mem::take(&mut self.spans);
                let apart = std::mem::take(&mut self.apart);
                *self = Reader { spans, apart, ..Reader::new(self.policy, self.text) };
                return;
            }
            b'.' => return,
            b':' => {
                self.cast = self.before.is_some_and(|before| before.kind == TokenKind::Symbol(b':'));
                return;
            }
            _ => {}
        }
        self.frame().names = None;
        self.operated();
        self.operator = match self.operator {
            Some((start, end)) if end == token.start => Some((start, token.end)),
            _ => Some((token.start, token.end)),
        };
    }

    fn open(&mut self, symbol: u8) {
        if self.frames.len() >= DEPTH_MAX {
            self.deeper += 1;
            return;
        }
        let function = match self.before {
            Some(before) if matches!(before.kind, TokenKind::Word) && symbol == b'(' => {
                self.text[before.start..before.end].to_ascii_lowercase()
            }
            _ => String::new(),
        };
        let secret = SECRET_FUNCTIONS.contains(&function.as_str());
        let base = if secret { Some(Treatment::Mask(Mark::redact("secret"))) } else { self.context.clone() };
        let insert_columns = std::mem::take(&mut self.insert);
        let row = self.values.clone().or_else(|| self.names.take());
        let nested = self.frame().positions.is_some();
        let called = !matches!(function.as_str(), "" | "row" | "values" | "in" | "any");
        let positions = row.filter(|_| symbol == b'(' && !nested && !called);
        let frame = Frame {
            base,
            positions: positions.map(|marks| (marks, 0)),
            names: Some(Vec::new()),
            insert_columns,
            set_config: function == "set_config",
            outer: self.context.clone(),
        };
        self.frames.push(frame);
        self.reset();
    }

    fn close(&mut self) {
        if self.deeper > 0 {
            self.deeper -= 1;
            return;
        }
        if self.frames.len() < 2 {
            return;
        }
        let Some(frame) = self.frames.pop() else { return };
        let marks: Option<Marks> = frame.names.filter(|names| !names.is_empty()).map(Arc::from);
        if marks.as_ref().is_some_and(|marks| marks.len() > 1) {
            // What follows a list of names meets them one by one, not its last.
            self.name = None;
        }
        if frame.insert_columns && std::mem::take(&mut self.copy) {
            self.apart.copied = marks;
        } else if frame.insert_columns {
            self.insert_columns = marks;
        } else {
            self.names = marks;
        }
        self.context = frame.outer;
    }
}
