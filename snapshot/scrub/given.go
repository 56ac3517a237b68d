package scrub

import "regexp"

// given are passwords that programs take as arguments. A line without the word needs
// no look at the pattern.
var given = []struct {
	word string
	re   func() *regexp.Regexp
}{
	{"mysql", lazy(mysqlPassword)}, {"mariadb", lazy(mysqlPassword)},
	{"sshpass", lazy(`\bsshpass[ \t]+-p[ \t]*(` + argument + `)`)},
	{"curl", lazy(`\bcurl[ \t](?:[^|;&\n]*[ \t])?(?:-u[ \t]*|--user[ \t=]|--proxy-user[ \t=]|-U[ \t]*)["']?[^\s:"'$]+:([^\s"']+)`)},
	{"user =", configured}, {"user=", configured},
	{"smbclient", lazy(`\bsmbclient[ \t](?:[^|;&\n]*[ \t])?-U[ \t]*["']?[^\s%"'$]+%([^\s"']+)`)},
	{"ldap", lazy(`\bldap(?:search|add|modify|delete|passwd|whoami)[ \t](?:[^|;&\n]*[ \t])?-w[ \t]*(` + argument + `)`)},
	{"redis-cli", lazy(`\bredis-cli[ \t](?:[^|;&\n]*[ \t])?-a[ \t]*(` + argument + `)`)},
	{"lftp", lazy(`\blftp[ \t](?:[^|;&\n]*[ \t])?-u[ \t]*["']?[^\s,"'$]+,([^\s"';]+)`)},
	{"chpasswd", lazy(`\becho[ \t]+(?:-n[ \t]+)?["']?[^\s:"'$]+:([^\s"']+)["']?[ \t]*\|[ \t]*(?:sudo[ \t]+)?\S*chpasswd`)},
	{"pass:", lazy(`-pass(?:in|out)?[ \t]+pass:([^\s"']+)`)}, // openssl
	{"login=", lazy(`\blogin=[^\s:"'$]+:([^\s"']+)`)},        // squid
	{"-pass", option}, {"_pass", option}, {"-token", option}, {"-secret", option}, {"api-key", option}, {"api_key", option},
}

// configured is a line of curl's own configuration.
var configured = lazy(`^-{0,2}(?:proxy-)?user[ \t]*=[ \t]*"?[^\s:"=]+:([^\s"]+)"?$`)

// option is --password X and its like.
var option = lazy(`(?i)(?:^|[\s"'\[,])--?(?:[a-z]+[_-]){0,4}(?:password|passwd|passphrase|token|secret|api[_-]?key)(?:=|["',]*[ \t]+)(` + argument + `)`)

const (
	argument      = `"[^"\n]+"|'[^'\n]+'|[^\s"'|;&-][^\s"'|;&]*`
	mysqlPassword = `\b(?:mysql|mariadb)[a-z]*[ \t](?:[^|;&\n]*[ \t])?-p("[^"\n]+"|'[^'\n]+'|[^\s"'|;&]+)`
)

// onCommandLine finds the passwords that programs take as an argument.
func onCommandLine(line, low []byte, real func([]byte) bool) bool {
	for _, g := range given {
		if has(low, g.word) {
			if m := g.re().FindSubmatch(line); m != nil && real(m[1]) {
				return true
			}
		}
	}
	return false
}
