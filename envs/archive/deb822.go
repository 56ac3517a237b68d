package archive

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxStanza bounds the bytes of one stanza of a Release or .sources file; a
// Release is one stanza and lists all files of a suite.
const maxStanza = 16 << 20

// stanza is one paragraph of deb822(5), by lower-case field name. The value of a
// folded field keeps its line breaks.
type stanza map[string]string

// fields are the words of a field.
func (s stanza) fields(name string) []string { return strings.Fields(s[name]) }

// stanzas calls fn for each paragraph of r.
func stanzas(r io.Reader, fn func(stanza) error) error {
	in := bufio.NewScanner(r)
	in.Buffer(nil, 1<<20)
	cur, size, name := stanza{}, 0, ""
	var value strings.Builder
	end := func() {
		if name != "" {
			cur[name] = value.String()
		}
		name = ""
		value.Reset()
	}
	flush := func() error {
		end()
		done := cur
		cur, size = stanza{}, 0
		if len(done) == 0 {
			return nil
		}
		return fn(done)
	}
	for n := 1; in.Scan(); n++ {
		line := strings.TrimRight(in.Text(), " \t\r")
		if size += len(line); size > maxStanza {
			return errors.New("a paragraph is too long")
		}
		switch {
		case line == "":
			if err := flush(); err != nil {
				return err
			}
		case line[0] == '#':
		case line[0] == ' ' || line[0] == '\t':
			if name == "" {
				return fmt.Errorf("line %d continues no field", n)
			}
			value.WriteByte('\n')
			value.WriteString(line[1:])
		default:
			end()
			key, val, ok := strings.Cut(line, ":")
			if !ok || key == "" {
				return fmt.Errorf("line %d has no field name", n)
			}
			name = strings.ToLower(strings.TrimSpace(key))
			value.WriteString(strings.TrimSpace(val))
		}
	}
	if err := in.Err(); err != nil {
		return err
	}
	return flush()
}
