package scrub

import (
	"bytes"
	"regexp"
	"strings"
)

// Names that say their value is a secret, at the end of a longer name or alone.
const secretName = `(?:pass(?:word|wd|phrase|code|w)?|pwd|secret|secret[_.-]?key(?:[_.-]?base)?|api[_.-]?key|apikey|` +
	`access[_.-]?key|access[_.-]?token|auth[_.-]?token|auth[_.-]?key|private[_.-]?key|client[_.-]?key[_.-]?data|bearer[_.-]?token|` +
	`encryption[_.-]?key|signing[_.-]?key|token|preshared[_.-]?key|psk|bindpw|rootpw|db[_.-]?pass|smtp[_.-]?pass|` +
	`ssl[_.-]?pass|ftp[_.-]?pass|mail[_.-]?pass|user[_.-]?pass|connectionstring)`

var (
	// NAME = value, "NAME": "value", NAME: value, define('NAME', 'value'),
	// $x['NAME'] = 'value'.
	assigns = lazy(`(?i)[A-Za-z0-9_.-]{0,60}` + secretName +
		`["']?\]?[ \t]*(?:=>|:=|=|:|,)[ \t]*("[^"\n]{1,512}"|'[^'\n]{1,512}'|[^\s"']+)`)
	// <password>value</password>
	element = lazy(`(?i)<[A-Za-z0-9_.:-]{0,60}` + secretName + `[^<>\n]{0,100}>([^<>\n]{1,512})</`)
	// Settings whose value follows after a space: redis, LDAP, netrc, SNMP.
	spaced = lazy(`(?im)^[ \t]*(?:requirepass|masterauth|bindpw|rootpw|ldap_default_authtok|` +
		`machine[ \t]+\S+[ \t]+login[ \t]+\S+[ \t]+password|authpass|auth_pass)[ \t]+("[^"\n]+"|\S+)`)
	authorization = lazy(`(?i)authorization["']?[ \t]*[:=]?[ \t]*["']?(?:basic|bearer)[ \t]+([A-Za-z0-9+/._~-]{12,}=*)`)
	// scheme://user:password@host
	address = lazy(`^://([^/\s:@"'<>]{0,100}):([^/\s@"'<>]{1,256})@[A-Za-z0-9\[._-]`)

	// Passwords given to programs on their command lines: mysql -pX, sshpass -p X,
	// curl -u NAME:X, and curl's own configuration, user = "NAME:X".
	given = []func() *regexp.Regexp{
		lazy(`\b(?:mysql|mariadb)[a-z]*[ \t](?:[^|;&\n]*[ \t])?-p("[^"\n]+"|'[^'\n]+'|[^\s"'|;&]+)`),
		lazy(`\bsshpass[ \t]+-p[ \t]*("[^"\n]+"|'[^'\n]+'|[^\s"']+)`),
		lazy(`\bcurl[ \t](?:[^|;&\n]*[ \t])?(?:-u[ \t]*|--user[ \t=])["']?[^\s:"'$]+:([^\s"']+)`),
		lazy(`^-{0,2}(?:proxy-)?user[ \t]*=[ \t]*"?[^\s:"=]+:([^\s"]+)"?$`),
	}

	xmlComment = lazy(`(?s)<!--.*?-->`)

	hint = lazy(`(?i)pass|pwd|secret|token|key|psk|bindpw|rootpw|masterauth|connectionstring|authorization|authtok`)
)

func patterns() []string {
	var all []string
	for _, re := range []func() *regexp.Regexp{begin, end, header, assigns, element, spaced, authorization, address, hint, given[0], given[1], given[2], given[3]} {
		all = append(all, re().String())
	}
	return all
}

// placeholders are values that are nobody's password, in lower case.
var placeholders = wordSet(`password passwd pass pwd secret token key user username your yourpassword mypassword my_password
	changeme change_me changeit example sample test none null nil undefined empty true false yes no on off 0 1 default
	required optional sufficient requisite include files compat systemd sss ldap nis db dns winbind prompt ask
	interactive never always enabled disabled auto string str int bool file env plain login md5 sha256 sha512 crypt
	scram-sha-256 peer trust ident reject stdin hidden text auth redacted masked removed foo bar baz foobar xxx any all
	pass:insta pserver:anoncvs anoncvs anonymous`)

func wordSet(s string) map[string]bool {
	m := map[string]bool{}
	for _, w := range strings.Fields(s) {
		m[w] = true
	}
	return m
}

// assignment looks for settings that hold a secret, a line at a time; what is
// commented out is documentation, more often than not.
func assignment(b []byte) string {
	if bytes.Contains(b, []byte("<!--")) {
		b = xmlComment().ReplaceAll(b, nil)
	}
	for line := range bytes.SplitSeq(b, []byte("\n")) {
		if i := bytes.Index(line, []byte(" #")); i >= 0 && bytes.Count(line[:i], []byte(`"`))%2 == 0 && bytes.IndexByte(line[:i], '\'') < 0 {
			line = line[:i] // what follows is a comment
		}
		line = bytes.TrimSpace(line)
		if len(line) < 5 || comment(line) {
			continue
		}
		if onCommandLine(line) {
			return "a password is given to a program"
		}
		if !hint().Match(line) {
			continue
		}
		for _, m := range assigns().FindAllSubmatchIndex(line, 20) {
			// The match may begin inside of a word that the pattern was too short for.
			if m[0] > 0 && (wordByte(line[m[0]-1]) || line[m[0]-1] == '$' && !phpVariable(line)) {
				continue
			}
			if name := line[m[0]:m[2]]; bytes.IndexByte(name, ',') >= 0 && !bytes.Contains(line, []byte("define(")) {
				continue
			}
			if prose(line, m) {
				continue
			}
			if realValue(line[m[2]:m[3]]) {
				return "a password is set"
			}
		}
		for _, re := range []func() *regexp.Regexp{element, spaced} {
			if m := re().FindSubmatch(line); m != nil && realValue(m[1]) {
				return "a password is set"
			}
		}
		if m := authorization().FindSubmatch(line); m != nil && len(distinct(m[1])) > 6 {
			return "an authorization header"
		}
	}
	return ""
}

// onCommandLine finds the passwords that programs take as an argument.
func onCommandLine(line []byte) bool {
	for _, g := range []struct {
		word string // without it there is no need for the pattern
		re   int
	}{{"mysql", 0}, {"mariadb", 0}, {"sshpass", 1}, {"curl", 2}, {"user", 3}} {
		if bytes.Contains(line, []byte(g.word)) {
			if m := given[g.re]().FindSubmatch(line); m != nil && realValue(m[1]) {
				return true
			}
		}
	}
	return false
}

// prose tells "Password: Please enter it" from YAML, which has one word there or
// quotes.
func prose(line []byte, m []int) bool {
	colon := bytes.HasSuffix(bytes.TrimRight(line[m[0]:m[2]], " \t"), []byte(":"))
	return colon && line[m[2]] != '"' && line[m[2]] != '\'' && bytes.ContainsAny(line[m[3]:], " \t") &&
		!bytes.HasSuffix(line[:m[3]], []byte(","))
}

func comment(line []byte) bool {
	if len(line) > 2 && line[0] == '*' && (line[2] == '*' || line[2] >= '0' && line[2] <= '9') {
		return false // the times of a cron job
	}
	for _, c := range []string{"#", ";", "//", "/*", "* ", "--", "<!--", "%", `"""`, "dnl ", "REM ", "'"} {
		if bytes.HasPrefix(line, []byte(c)) {
			return true
		}
	}
	return false
}

// phpVariable tells `$password = 'x'` from a shell's `foo=$password:x`.
func phpVariable(line []byte) bool { return line[0] == '$' }

// realValue leaves out what isn't a secret itself: variables, templates, names of
// files and programs, marks for "none", words from a list, types.
func realValue(value []byte) bool {
	v := strings.TrimSpace(string(value))
	quoted := len(v) > 1 && (v[0] == '"' || v[0] == '\'')
	if quoted {
		v = strings.Trim(v, v[:1])
	}
	if !quoted {
		v = strings.TrimRight(v, ",;)]}>")
	}
	low := strings.ToLower(v)
	if len(v) < 4 || placeholders[low] || placeholders[strings.Trim(low, "[]<>{}()*-_.!")] {
		return false
	}
	switch v[0] {
	case '$', '%', '<', '{', '@', '/', '~', '`', '(', '&', '|', '*', '[', '=', '\\', ':':
		return false
	}
	if strings.ContainsAny(v, "<>") || strings.Contains(v, "${") || strings.Contains(v, "{{") || strings.Contains(v, "$(") {
		return false
	}
	if len(distinct([]byte(v))) < 3 || strings.HasPrefix(low, "your") || strings.HasPrefix(low, "file:") ||
		strings.HasPrefix(low, "env:") || strings.HasPrefix(low, "http://") || strings.HasPrefix(low, "https://") ||
		strings.HasPrefix(low, "./") || strings.HasSuffix(low, ".so") || strings.HasSuffix(low, "()") {
		return false
	}
	// A sentence is a label or a question; code is a call or an access.
	return strings.Count(v, " ") < 3 && (quoted || !strings.ContainsAny(v, "()[]{}"))
}

// passwordInAddress finds scheme://user:password@host.
func passwordInAddress(b []byte) bool {
	for rest := b; ; {
		i := bytes.Index(rest, []byte("://"))
		if i < 0 {
			return false
		}
		after := rest[i:min(len(rest), i+512)]
		if m := address().FindSubmatch(after); m != nil && i > 1 && wordByte(rest[i-1]) && realPassword(m[2]) {
			return true
		}
		rest = rest[i+3:]
	}
}

// realPassword is realValue for addresses, where manuals like to be brief.
func realPassword(v []byte) bool {
	if len(distinct(v)) < 3 || placeholders[strings.ToLower(string(v))] || someWord().Match(v) {
		return false
	}
	return !bytes.ContainsAny(v, "$%{}<>[]*()\\|`") || escaped().Match(v)
}

var (
	someWord = lazy(`(?i)^(?:your|my|the|db|some|proxy)?[_-]?(?:pass|pw|passphrase|password|passwd|secret|token)[_-]?[0-9]{0,4}$`)
	escaped  = lazy(`^[^$%{}<>]*(?:%[0-9A-Fa-f]{2}[^$%{}<>]*)+$`)
)
