package scrub

import (
	"bytes"
	"iter"
	"regexp"
)

// kind says how much a line has to look like a secret.
type kind int

const (
	setting   kind = iota
	commented      // manuals and samples show passwords, too
	program        // and programs compute them
)

// real reports whether a value is a secret, where lines are of this kind.
func (k kind) real(v []byte) bool { return realValue(v) && (k == setting || generated(v)) }

// assignment looks for settings that hold a secret, a line at a time.
func assignment(b []byte, k kind) string {
	if bytes.Contains(b, []byte("<!--")) {
		for _, c := range xmlComment().FindAll(b, -1) {
			if reason := lines(c[4:len(c)-3], commented); reason != "" {
				return reason + ", in a comment"
			}
		}
		b = xmlComment().ReplaceAll(b, nil)
	}
	if reason := lines(b, k); reason != "" {
		return reason
	}
	return across(b, k)
}

func lines(b []byte, k kind) string {
	for at, end := range hinted(lower(b)) {
		if reason := lookAt(b[at:end], k); reason != "" {
			return reason
		}
	}
	return ""
}

// hinted are the lines, from and to, that one of the hints is in, or that have the
// shape of a table of passwords.
func hinted(low []byte) iter.Seq2[int, int] {
	return func(yield func(int, int) bool) {
		next := make([]int, len(hints)) // where each hint is found next
		for i := range next {
			next[i] = -1
		}
		for at, end := 0, 0; at < len(low); at = end + 1 {
			end = len(low)
			if i := bytes.IndexByte(low[at:], '\n'); i >= 0 {
				end = at + i
			}
			found := false
			for i, h := range hints {
				if next[i] < at {
					next[i] = len(low)
					if k := bytes.Index(low[at:], []byte(h)); k >= 0 {
						next[i] = at + k
					}
				}
				found = found || next[i] < end
			}
			if (found || tabular(low[at:end])) && !yield(at, end) {
				return
			}
		}
	}
}

// tabular reports whether a line may be one of .pgpass, or of a relay map.
func tabular(line []byte) bool {
	colon := bytes.IndexByte(line, ':')
	if colon < 0 {
		return false
	}
	if bytes.Count(line[colon:], []byte(":")) >= 4 {
		return true
	}
	space := bytes.IndexAny(line, " \t")
	return space > 0 && bytes.IndexByte(line[:space], '.') > 0 && bytes.IndexByte(line[space:], ':') > 0
}

// lower is ASCII in lower case, so that places stay what they are.
func lower(b []byte) []byte {
	low := make([]byte, len(b))
	for i, c := range b {
		if c-'A' < 26 {
			c += 'a' - 'A'
		}
		low[i] = c
	}
	return low
}

// maxLine bounds a line that is looked at: a longer one is data.
const maxLine = 64 << 10

// lookAt tells of a line what is secret in it, or in the comment at its end.
func lookAt(line []byte, k kind) string {
	if len(line) > maxLine {
		line = line[:maxLine]
	}
	line = bytes.TrimSpace(line)
	if comment(line) {
		if reason := secretIn(bytes.TrimLeft(line, "#;/*-!%\"'<> \t"), commented); reason != "" {
			return reason + ", in a comment"
		}
		return ""
	}
	if i := bytes.Index(line, []byte(" #")); i >= 0 && bytes.Count(line[:i], []byte(`"`))%2 == 0 && bytes.IndexByte(line[:i], '\'') < 0 {
		if reason := secretIn(line[i+2:], commented); reason != "" {
			return reason + ", in a comment"
		}
		line = line[:i]
	}
	return secretIn(line, k)
}

func secretIn(line []byte, k kind) string {
	if len(line) < 5 {
		return ""
	}
	real := k.real
	low := lower(line)
	if tabular(low) {
		for _, table := range []func() *regexp.Regexp{pgpass, relay} {
			if m := table().FindSubmatch(line); m != nil && realValue(m[1]) && generated(m[1]) {
				return "a list of passwords"
			}
		}
	}
	if onCommandLine(line, low, real) {
		return "a password is given to a program"
	}
	if assignable(low) && assigned(line, k, real) {
		return "a password is set"
	}
	for _, form := range forms {
		if !form.may(low) || form.set && k != setting {
			continue
		}
		if m := form.re().FindSubmatch(line); m != nil && real(bytes.Join(m[1:], nil)) {
			return "a password is set"
		}
	}
	if has(low, "authorization") {
		if m := authorization().FindSubmatch(line); m != nil && len(distinct(m[1])) > 6 {
			return "an authorization header"
		}
	}
	if has(low, `"auth"`) || has(low, `"identitytoken"`) {
		if m := dockerAuth().FindSubmatch(line); m != nil {
			if plain := decodeBase64(m[1]); bytes.IndexByte(plain, ':') > 0 && isText(plain) {
				return "a registry's password"
			}
		}
	}
	return ""
}

func has(low []byte, words ...string) bool {
	for _, w := range words {
		if bytes.Contains(low, []byte(w)) {
			return true
		}
	}
	return false
}

// forms are further ways to set a password, each with what its line has to hold: the
// patterns are slow.
var forms = []struct {
	may func(low []byte) bool
	re  func() *regexp.Regexp
	set bool // manuals show it too
}{
	{func(low []byte) bool { return has(low, "</") }, element, false},
	{func(low []byte) bool { return has(low, "name=", "key=") && has(low, "value=", "<") }, entry, false},
	{func(low []byte) bool {
		return has(low, "requirepass", "masterauth", "bindpw", "rootpw", "authtok", "wpa-", "wireless-", "machine", "authpass", "auth_pass",
			"stats", "user", "community", "password password", "password\tpassword")
	}, spaced, false},
	{func(low []byte) bool { return has(low, "user") && has(low, ">") }, acl, true},
	{func(low []byte) bool {
		return bytes.ContainsAny(low, `"'`) && has(low, "secret", "password", "passphrase", "identified")
	}, named, false},
	{func(low []byte) bool { return has(low, "jdbc:oracle:") }, oracle, false},
	{func(low []byte) bool { return has(low, "setcredential=") }, credential, false},
	{func(low []byte) bool { return has(low, "-token") }, tokenHeader, false},
	{func(low []byte) bool { return has(low, "authorization") && has(low, "token") }, tokenScheme, false},
}

// assignable reports whether one of the names that assigns knows may be set on a line:
// something has to follow it.
func assignable(low []byte) bool {
	for _, w := range []string{"pass", "pwd", "secret", "token", "key", "psk", "bindpw", "rootpw", "connectionstring", "auth", "kennwort", "mot"} {
		for rest := low; ; {
			i := bytes.Index(rest, []byte(w))
			if i < 0 {
				break
			}
			before, after := rest[:i], rest[i+len(w):]
			rest = after
			if w == "key" && !ofKey(before) {
				continue
			}
			after = bytes.TrimLeft(after, "abcdefghijklmnopqrstuvwxyz_.-")
			after = bytes.TrimLeft(after, "\"'] \t")
			if len(after) > 1 && (after[0] == '=' || after[0] == ':' || after[0] == ',' && has(low, "define(")) {
				return true
			}
		}
	}
	return false
}

// ofKey reports whether what is before "key" makes it a secret one.
func ofKey(before []byte) bool {
	before = bytes.TrimRight(before, "_.-")
	for _, w := range []string{"secret", "api", "access", "auth", "private", "client", "encryption", "signing", "shared", "account", "app", "master", "session", "cookie", "jwt", "hmac",
		"license"} {
		if bytes.HasSuffix(before, []byte(w)) {
			return true
		}
	}
	return false
}
