package expression

// ClosingBrace returns the place, in bytes, of the brace that closes the expression
// with which a text begins, not of one inside a string or a map of it; -1 if there
// is none.
func ClosingBrace(text string) int {
	depth := 0
	var quote rune
	escaped := false
	for i, r := range text {
		switch {
		case escaped:
			escaped = false
		case quote != 0:
			escaped = r == '\\' && quote != '`'
			if r == quote {
				quote = 0
			}
		case r == '"' || r == '\'' || r == '`':
			quote = r
		case r == '{':
			depth++
		case r == '}' && depth == 0:
			return i
		case r == '}':
			depth--
		}
	}
	return -1
}
