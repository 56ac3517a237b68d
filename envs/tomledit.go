package envs

import (
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"

	"github.com/stead-env/stead/envs/lock"
)

// EditError says that stead.toml is written in a way that no program can change
// without losing what people wrote.
type EditError struct {
	Path   string
	Key    string
	Wishes []string
}

func (e *EditError) Error() string {
	return fmt.Sprintf("changing %s: its %s is written in a way that only people can change", e.Path, e.Key)
}

// Hint says what to write.
func (e *EditError) Hint() string { return "write it there: " + e.Key + " = " + quoteList(e.Wishes) }

const byteOrderMark = "\ufeff"

// editTools sets the tools in the text of a stead.toml, for one target or, where that is
// "", for the project. Comments, order and all else stay as they are. That it came out
// so is checked by reading it.
func editTools(file string, text []byte, target string, wishes []string) ([]byte, error) {
	key := toml.Key{"tools"}
	if target != "" {
		key = toml.Key{"target", target, "tools"}
	}
	bad := &EditError{file, key.String(), wishes}
	var before, after ProjectConfig
	if err := decodeText(file, text, &before); err != nil {
		return nil, err
	}
	// What other systems' editors write stays: a mark at the beginning, and ends of lines.
	plain, marked := strings.CutPrefix(string(text), byteOrderMark)
	crlf := strings.Contains(plain, "\r\n") && strings.Count(plain, "\r\n") == strings.Count(plain, "\n")
	if crlf {
		plain = strings.ReplaceAll(plain, "\r\n", "\n")
	}
	s, err := scanTOML(plain)
	if err != nil {
		return nil, bad
	}
	next, ok := s.set(key, wishes)
	if crlf {
		next = strings.ReplaceAll(next, "\n", "\r\n")
	}
	if marked {
		next = byteOrderMark + next
	}
	if !ok || decodeText(file, []byte(next), &after) != nil {
		return nil, bad
	}
	if !reflect.DeepEqual(before.withTools(target, wishes), after) {
		return nil, bad
	}
	return []byte(next), nil
}

// set changes the array of strings that key names, or adds one.
func (s *tomlText) set(key []string, list []string) (string, bool) {
	for _, st := range s.statements {
		if !st.header && slices.Equal(st.key, key) {
			array, ok := changeArray(s.text[st.begin:st.end], list)
			return s.text[:st.begin] + array + s.text[st.end:], ok
		}
	}
	if len(key) == 1 {
		return s.add("tools = " + quoteList(list) + "\n"), true
	}
	table, tables := key[:len(key)-1], false
	for _, st := range s.statements {
		tables = tables || st.header
		if st.header && slices.Equal(st.key, table) {
			return s.insert(st.end, "tools = "+quoteList(list)+"\n"), true
		}
		// A dotted key at the top defines the table: no header may follow for it.
		if !tables && len(st.key) > len(table) && slices.Equal(st.key[:len(table)], table) {
			return s.insert(st.end, dottedKey(key)+" = "+quoteList(list)+"\n"), true
		}
	}
	text := s.text
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	return text + "\n[" + dottedKey(table) + "]\ntools = " + quoteList(list) + "\n", true
}

// add adds a line at the top, after what says where and for whom.
func (s *tomlText) add(line string) string {
	at := -1
	for _, st := range s.statements {
		if st.header {
			break
		}
		if st.key[0] == "fleet" || st.key[0] == "targets" {
			at = st.end
		}
	}
	if at >= 0 {
		return s.insert(at, line)
	}
	if len(s.statements) == 0 {
		return s.insert(len(s.text), line)
	}
	first := lineStart(s.text, s.statements[0].from)
	return s.text[:first] + line + s.text[first:]
}

func dottedKey(key []string) string {
	parts := make([]string, len(key))
	for i, k := range key {
		parts[i] = k
		if k == "" || strings.Trim(k, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") != "" {
			parts[i] = lock.Quote(k)
		}
	}
	return strings.Join(parts, ".")
}

// insert puts a line after the one that at is in.
func (s *tomlText) insert(at int, line string) string {
	if i := strings.IndexByte(s.text[at:], '\n'); i >= 0 {
		at += i + 1
		return s.text[:at] + line + s.text[at:]
	}
	if s.text != "" {
		line = "\n" + line
	}
	return s.text + line
}

func lineStart(text string, at int) int { return strings.LastIndexByte(text[:at], '\n') + 1 }

// changeArray makes an array of strings hold list, which has what it held before in the
// same order but for what leaves, and new elements at the end.
func changeArray(text string, list []string) (string, bool) {
	s := &tomlText{text: text}
	if text == "" || text[0] != '[' {
		return "", false
	}
	places, err := s.elements(0)
	if err != nil {
		return "", false
	}
	wanted := slices.Clone(list)
	var drop [][2]int
	for _, at := range places {
		v, err := unquoteTOML(text[at[0]:at[1]])
		if err != nil {
			return "", false
		}
		if len(wanted) > 0 && wanted[0] == v {
			wanted = wanted[1:]
			continue
		}
		drop = append(drop, at)
	}
	for _, at := range slices.Backward(drop) {
		text = dropElement(text, at)
	}
	for _, v := range wanted {
		text = addElement(text, lock.Quote(v))
	}
	return text, true
}

// dropElement takes one element out of an array, and its line where it has one of its
// own.
func dropElement(text string, at [2]int) string {
	begin, end := at[0], at[1]
	rest := strings.TrimLeft(text[end:], " \t\r\n")
	comma := strings.HasPrefix(rest, ",")
	if comma {
		end = len(text) - len(rest) + 1
	}
	line := lineStart(text, begin)
	after, _, more := strings.Cut(text[end:], "\n")
	own := strings.TrimSpace(text[line:begin]) == "" && line > 0
	if trimmed := strings.TrimSpace(after); own && more && (trimmed == "" || trimmed[0] == '#') {
		return text[:line] + text[end+len(after)+1:]
	}
	if comma {
		return text[:begin] + strings.TrimLeft(text[end:], " \t")
	}
	before := strings.TrimRight(text[:begin], " \t")
	return strings.TrimSuffix(before, ",") + text[end:]
}

// addElement adds one element to the end of an array, on a line of its own where the
// last one has that.
func addElement(text, element string) string {
	s := &tomlText{text: text}
	places, err := s.elements(0)
	if err != nil {
		return text
	}
	if len(places) == 0 {
		close := len(text) - 1
		if line := lineStart(text, close); line > 0 {
			return text[:line] + "  " + element + ",\n" + text[line:]
		}
		return text[:1] + element + text[close:]
	}
	last := places[len(places)-1]
	line := lineStart(text, last[0])
	indent := text[line:last[0]]
	end, comma := last[1], strings.HasPrefix(strings.TrimLeft(text[last[1]:], " \t"), ",")
	if comma {
		end += strings.IndexByte(text[end:], ',') + 1
	}
	newline := strings.IndexByte(text[end:], '\n')
	if line > 0 && strings.TrimSpace(indent) == "" && newline >= 0 {
		tail := text[end : end+newline+1] // what stands beside, such as a comment
		if !comma {
			tail = "," + tail
		}
		return text[:end] + tail + indent + element + ",\n" + text[end+newline+1:]
	}
	if comma {
		return text[:end] + " " + element + text[end:]
	}
	return text[:end] + ", " + element + text[end:]
}

// canEdit reports whether stead.toml can be changed so.
func (p *Project) canEdit(target string, wishes []string) error {
	_, err := p.edited(target, wishes)
	return err
}

func (p *Project) edited(target string, wishes []string) ([]byte, error) {
	path := filepath.Join(p.Dir, ProjectFile)
	text, err := readBounded(path, maxConfig)
	if err != nil {
		return nil, err
	}
	return editTools(path, text, target, wishes)
}

// writeTools sets the tools of stead.toml, for one target or, where that is "", for the
// project.
func (p *Project) writeTools(target string, wishes []string) error {
	next, err := p.edited(target, wishes)
	if err != nil {
		return err
	}
	return writeOver(filepath.Join(p.Dir, ProjectFile), next, 0o644)
}
