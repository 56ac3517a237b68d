package envs

import (
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
)

// tomlText is a TOML document with the places of its statements.
type tomlText struct {
	text       string
	at         int // while it is scanned
	statements []tomlStatement
}

// tomlStatement sets a key, or is the header of a table.
type tomlStatement struct {
	key        []string // from the top
	header     bool
	from       int // where it begins
	begin, end int // of the value, or of the header
}

var errTOML = errors.New("not followed")

// scanTOML finds the statements of a document that is known to be TOML.
func scanTOML(text string) (*tomlText, error) {
	s := &tomlText{text: text}
	var table []string
	for {
		s.space(" \t\r\n")
		if s.at == len(text) {
			return s, nil
		}
		from := s.at
		if text[s.at] == '[' {
			many := strings.HasPrefix(text[s.at:], "[[")
			s.at++
			if many {
				s.at++
			}
			key, err := s.key()
			if err != nil || !s.literal("]") || many && !s.literal("]") {
				return nil, errTOML
			}
			table = key
			if many {
				table = append(table, "\x00"+strconv.Itoa(s.at)) // one of a list: no table of ours
			}
			s.statements = append(s.statements, tomlStatement{table, true, from, from, s.at})
			continue
		}
		key, err := s.key()
		if err != nil || !s.literal("=") {
			return nil, errTOML
		}
		s.space(" \t")
		begin := s.at
		if err := s.value(0); err != nil {
			return nil, err
		}
		s.statements = append(s.statements, tomlStatement{slices.Concat(table, key), false, from, begin, s.at})
	}
}

// space passes white space, and comments where lines may end.
func (s *tomlText) space(chars string) {
	for s.at < len(s.text) {
		switch c := s.text[s.at]; {
		case strings.IndexByte(chars, c) >= 0:
			s.at++
		case c == '#' && strings.Contains(chars, "\n"):
			i := strings.IndexByte(s.text[s.at:], '\n')
			if i < 0 {
				i = len(s.text) - s.at
			}
			s.at += i
		default:
			return
		}
	}
}

func (s *tomlText) literal(l string) bool {
	s.space(" \t")
	if !strings.HasPrefix(s.text[s.at:], l) {
		return false
	}
	s.at += len(l)
	return true
}

// key reads a dotted key.
func (s *tomlText) key() ([]string, error) {
	var key []string
	for {
		s.space(" \t")
		begin := s.at
		if s.at < len(s.text) && (s.text[s.at] == '"' || s.text[s.at] == '\'') {
			if err := s.str(); err != nil {
				return nil, err
			}
			part, err := unquoteTOML(s.text[begin:s.at])
			if err != nil {
				return nil, err
			}
			key = append(key, part)
		} else {
			for s.at < len(s.text) && strings.IndexByte(" \t\r\n.=]#\"'", s.text[s.at]) < 0 {
				s.at++
			}
			if s.at == begin {
				return nil, errTOML
			}
			key = append(key, s.text[begin:s.at])
		}
		if !s.literal(".") {
			return key, nil
		}
	}
}

// maxNesting bounds arrays in arrays.
const maxNesting = 50

// value passes one value.
func (s *tomlText) value(depth int) error {
	if s.at == len(s.text) || depth > maxNesting {
		return errTOML
	}
	switch s.text[s.at] {
	case '"', '\'':
		return s.str()
	case '[', '{':
		_, err := s.elements(depth)
		return err
	}
	begin := s.at
	for s.at < len(s.text) && strings.IndexByte("\r\n,]}#", s.text[s.at]) < 0 {
		s.at++
	}
	if s.at == begin {
		return errTOML
	}
	return nil
}

// elements passes an array or an inline table and gives the places of its values.
func (s *tomlText) elements(depth int) (places [][2]int, err error) {
	open, end := s.text[s.at], byte(']')
	if open == '{' {
		end = '}'
	}
	for s.at++; ; {
		s.space(" \t\r\n")
		if s.at == len(s.text) {
			return nil, errTOML
		}
		switch s.text[s.at] {
		case end:
			s.at++
			return places, nil
		case ',':
			s.at++
			continue
		}
		if open == '{' {
			if _, err := s.key(); err != nil || !s.literal("=") {
				return nil, errTOML
			}
			s.space(" \t")
		}
		begin := s.at
		if err := s.value(depth + 1); err != nil {
			return nil, err
		}
		places = append(places, [2]int{begin, s.at})
	}
}

// str passes a string of one of the four kinds.
func (s *tomlText) str() error {
	quote := s.text[s.at : s.at+1]
	escapes := quote == `"`
	if three := strings.Repeat(quote, 3); strings.HasPrefix(s.text[s.at:], three) {
		quote = three
	}
	for s.at += len(quote); s.at < len(s.text); s.at++ {
		switch {
		case escapes && s.text[s.at] == '\\':
			s.at++
		case strings.HasPrefix(s.text[s.at:], quote):
			s.at += len(quote)
			for len(quote) == 3 && strings.HasPrefix(s.text[s.at:], quote[:1]) { // up to two more are the string's
				s.at++
			}
			return nil
		case len(quote) == 1 && s.text[s.at] == '\n':
			return errTOML
		}
	}
	return errTOML
}

// unquoteTOML reads one string.
func unquoteTOML(text string) (string, error) {
	var v struct{ V string }
	_, err := toml.Decode("V = "+text, &v)
	return v.V, err
}
