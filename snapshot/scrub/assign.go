package scrub

import (
	"bytes"
	"regexp"
	"strings"
)

// Names that say their value is a secret, at the end of a longer name or alone.
const secretName = `(?:pass(?:word|wd|phrase|code|w)?|pwd|secret|secret[_.-]?key(?:[_.-]?base)?|api[_.-]?key|apikey|` +
	`access[_.-]?key|access[_.-]?token|auth[_.-]?token|auth[_.-]?key|private[_.-]?key|client[_.-]?key[_.-]?data|bearer[_.-]?token|` +
	`(?:encryption|signing|account|app|master|session|cookie|jwt|hmac|license)[_.-]?key|token|preshared[_.-]?key|psk|bindpw|rootpw|db[_.-]?pass|smtp[_.-]?pass|` +
	`ssl[_.-]?pass|ftp[_.-]?pass|mail[_.-]?pass|user[_.-]?pass|connectionstring|authtok|rediscli_auth|passwort|kennwort|mot_?de_?passe)`

var (
	// NAME = value, "NAME": "value", NAME: value, define('NAME', 'value'),
	// $x['NAME'] = 'value'.
	assigns = lazy(`(?i)[A-Za-z0-9_.-]{0,60}` + secretName +
		`["']?\]?[ \t]*(?:=>|:=|=|:|,)[ \t]*("[^"\n]{1,512}"|'[^'\n]{1,512}'|[^\s"']+)`)
	// <password>value</password>, and <entry key="password">value</entry>
	element = lazy(`(?i)<[A-Za-z0-9_.:-]{0,60}` + secretName + `[^<>\n]{0,100}>([^<>\n]{1,512})</`)
	entry   = lazy(`(?i)(?:name|key)=["'][A-Za-z0-9_.:-]{0,60}` + secretName +
		`["'](?:[^<>\n]{0,100}value=("[^"\n]{1,512}"|'[^'\n]{1,512}')|[^<>\n]{0,100}>([^<>\n]{1,512})<)`)
	// Settings whose value follows after a space: redis, LDAP, netrc, SNMP, BIND,
	// interfaces(5), HAProxy, debconf-set-selections(1).
	spaced = lazy(`(?im)^[ \t]*(?:requirepass|masterauth|bindpw|rootpw|ldap_default_authtok|(?:wpa|wireless)-(?:psk|passphrase|key)|` +
		`machine[ \t]+\S+[ \t]+login[ \t]+\S+[ \t]+password|authpass|auth_pass|stats[ \t]+auth[ \t]+[^\s:]+:|` +
		`user[ \t]+\S+[ \t]+(?:insecure-)?password|createuser[ \t]+\S+[ \t]+(?:md5|sha\S*)|r[ow]community6?|` +
		`\S+[ \t]+\S+password(?:-again)?[ \t]+password)[ \t]*("[^"\n]+"|\S+)`)
	acl           = lazy(`^user[ \t]+\S+[ \t][^>\n]*>([^\s"']+)`) // Redis
	named         = lazy(`(?i)\b(?:secret|password|passphrase|identified[ \t]+by)[ \t]+("[^"\n]{4,512}"|'[^'\n]{4,512}')`)
	authorization = lazy(`(?i)authorization["']?[ \t]*[:=]?[ \t]*["']?(?:basic|bearer)[ \t]+([A-Za-z0-9+/._~-]{12,}=*)`)
	dockerAuth    = lazy(`"(?:auth|identitytoken)"[ \t]*:[ \t]*"([A-Za-z0-9+/]{12,}={0,2})"`)
	// scheme://user:password@host, and Oracle's user/password@host.
	address = lazy(`^://([^/\s:@"'<>]{0,100}):([^/\s@"'<>]{1,256})@[A-Za-z0-9\[._-]`)
	user    = lazy(`^://([A-Za-z0-9_-]{16,256})(?::|:x-oauth-basic)?@[A-Za-z0-9\[._-]`) // a token
	oracle  = lazy(`jdbc:oracle:[a-z]+:[^/\s@]{1,64}/([^@\s"'<>]{1,128})@`)
	// host:port:database:user:password, as in .pgpass, and smtp.host:587 user:password.
	pgpass = lazy(`^[^:\s#]{1,255}:(?:[0-9]{2,5}|\*):[^:\s]{1,64}:[^:\s]{1,64}:((?:[^:\\\s]|\\.){4,128})$`)
	relay  = lazy(`^\[?[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+\]?(?::[0-9]+)?[ \t]+[^\s:]{1,128}:([^\s:]{4,128})$`)

	// systemd.exec(5)
	credential = lazy(`(?i)^SetCredential=[^\s:=]+:("[^"\n]+"|\S+)`)
	// Headers that are called for what they hold.
	tokenHeader = lazy(`(?i)\b(?:x-vault|private|job|deploy|x-auth)-token["']?[ \t]*[:=][ \t]*["']?([A-Za-z0-9+/._~-]{8,}=*)`)
	tokenScheme = lazy(`(?i)authorization["']?[ \t]*[:=][ \t]*["']?token[ \t]+(?:token=)?["']?([A-Za-z+/._~-]*[0-9][A-Za-z0-9+/._~-]{9,}=*)`)

	xmlComment = lazy(`(?s)<!--.*?-->`)
)

// hints are the words without which a line isn't looked at closer, in lower case.
var hints = []string{"pass", "pwd", "secret", "token", "key", "psk", "bindpw", "rootpw", "masterauth", "connectionstring", "auth",
	"kennwort", "identified", "createuser", "mysql", "mariadb", "curl", "user", "smbclient", "ldap", "lftp", "oracle:", "redis-cli", "credential", "login=", "community", "wpa-", "wireless-"}

func patterns() []string {
	all := []func() *regexp.Regexp{begin, end, header, assigns, element, entry, spaced, acl, named, authorization, dockerAuth, address, user, oracle, pgpass, relay,
		credential, tokenHeader, tokenScheme, pair, netrc}
	for _, g := range given {
		all = append(all, g.re)
	}
	var text []string
	for _, re := range all {
		text = append(text, re().String())
	}
	return append(text, hints...)
}

// placeholders are values that are nobody's password, in lower case.
var placeholders = wordSet(`password passwd pass pwd secret token key user username your yourpassword mypassword my_password
	changeme change_me changeit example sample test none null nil undefined empty true false yes no on off 0 1 default
	required optional sufficient requisite include files compat systemd sss ldap nis db dns winbind prompt ask
	interactive never always enabled disabled auto string str int bool file env plain login md5 sha256 sha512 crypt
	scram-sha-256 peer trust ident reject stdin hidden text auth read write redacted masked removed foo bar baz foobar xxx any all
	pass:insta pserver:anoncvs anoncvs anonymous public passwort kennwort`)

func wordSet(s string) map[string]bool {
	m := map[string]bool{}
	for _, w := range strings.Fields(s) {
		m[w] = true
	}
	return m
}

// assigned reports whether a line sets something with a secret's name.
func assigned(line []byte, k kind, real func([]byte) bool) bool {
	for _, m := range assigns().FindAllSubmatchIndex(line, 20) {
		// The match may begin inside of a word that the pattern was too short for.
		if m[0] > 0 && (wordByte(line[m[0]-1]) || line[m[0]-1] == '$' && !phpVariable(line)) {
			continue
		}
		name := line[m[0]:m[2]]
		if bytes.IndexByte(name, ',') >= 0 && !bytes.Contains(line, []byte("define(")) || otherWord(name) {
			continue
		}
		if k == program && line[m[2]] != '"' && line[m[2]] != '\'' && !simple(line, m) {
			continue // an expression
		}
		if !prose(line, m) && real(line[m[2]:m[3]]) {
			return true
		}
	}
	return false
}

// simple reports whether nothing but the assignment is on a line.
func simple(line []byte, m []int) bool { return m[0] == 0 && m[3] == len(line) }

// otherWord reports whether a name ends with "pass" by chance.
func otherWord(name []byte) bool {
	low := strings.TrimRight(strings.ToLower(string(name)), "\"'] \t=:>,")
	word, ok := strings.CutSuffix(low, "pass")
	if !ok {
		return false
	}
	for _, w := range []string{"by", "com", "mini", "sur", "tres", "over", "under", "encom", "multi", "one", "two", "single", "fast", "low", "high", "band"} {
		if strings.HasSuffix(word, w) {
			return true
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

// comment reports whether a line is commented out, or documentation.
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
		strings.HasPrefix(low, "./") || strings.HasSuffix(low, "_here") || strings.HasSuffix(low, " here") || strings.HasSuffix(low, ".so") || strings.HasSuffix(low, "()") {
		return false
	}
	if identifier().MatchString(v) {
		return false
	}
	// A sentence is a label or a question; code is a call or an access.
	return strings.Count(v, " ") < 3 && (quoted || !strings.ContainsAny(v, "()[]{}"))
}

// identifier is the name of something secret: "NextToken" in the description of an
// interface.
var identifier = lazy(`^[A-Za-z_.-]*(?i:password|passwd|token|secret|key|passphrase)$`)

// generated reports whether a value looks as if a machine made it, or somebody who was
// told to use digits: not a word of a manual, a number, a version, an address.
func generated(value []byte) bool {
	v := strings.Trim(strings.TrimSpace(string(value)), `"'`)
	v = strings.TrimRight(v, ",;)]}>")
	if len(v) < 8 || len(distinct([]byte(v))) < 6 || strings.ContainsAny(v, " \t") || ordinary().MatchString(v) {
		return false
	}
	low := strings.ToLower(v)
	for _, w := range examples {
		if strings.Contains(low, w) && (len(v) < 20 || w[0] > '9') {
			return false
		}
	}
	digits, letters, runs := 0, 0, 0
	for i := 0; i < len(v); i++ {
		switch c := v[i]; {
		case c >= '0' && c <= '9':
			if digits++; i > 0 && (v[i-1] < '0' || v[i-1] > '9') {
				runs++
			}
		case c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z':
			letters++
		}
	}
	return digits > 0 && letters > 1
}

// examples are in values that manuals show.
var examples = strings.Fields(`example change your secret passw token sample dummy insert replace 1234 foobar default xxxx abcdef
	somewhere something mypass test placeholder redacted`)

// ordinary are numbers with units, dates, versions, names of hosts and files, and what
// is called like algorithms.
var ordinary = lazy(`^(?:[0-9][0-9.,_:-]*[A-Za-z%]{0,3}|[0-9a-fx.:]+:[0-9a-f.:/]*|v?[0-9]+(?:\.[0-9A-Za-z+~-]+)+|[a-z0-9_-]{1,20}(?:[./:][A-Za-z0-9_-]{1,20})+|` +
	`[A-Za-z]+[_-]?[0-9]{1,2}|(?i:[a-z0-9]+[_-])*(?i:sha|md|aes|rsa|utf|iso|des|hmac|ed|chacha|x|p)-?_?[0-9]+(?i:[_-][a-z0-9]+)*|[a-z]{1,12}(?:[_-][a-z0-9]{1,12})+)$`)

// maskLetters are what a bundle has in the place of a token in an address: that is
// judged as the token was.
const maskLetters = "masked-by-stead"

// passwordInAddress finds scheme://user:password@host, and https://token@host.
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
		if bytes.HasSuffix(rest[:i], []byte("http")) || bytes.HasSuffix(rest[:i], []byte("https")) {
			if m := user().FindSubmatch(after); m != nil && (generated(m[1]) || bytes.HasPrefix(m[1], []byte(maskLetters))) {
				return true
			}
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
