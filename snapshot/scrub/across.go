package scrub

import "bytes"

// What is set on several lines. The script joins up to four lines with blanks.
var (
	// - name: NAME, and value: VALUE, in YAML and JSON
	pair = lazy(`^(?i:name["']?[ \t]*:[ \t]*["']?[A-Za-z0-9_.-]{0,60}` + secretName +
		`["']?\s*,?\s*["']?value["']?[ \t]*:[ \t]*)("[^"\n]{1,512}"|'[^'\n]{1,512}'|[^\s"',}]+)`)
	netrc = lazy(`(?im)^[ \t]*(?:machine\s+\S+|default)\s+(?:(?:login|account)\s+\S+\s+)*password\s+(\S+)`)
)

// across looks for what is set on more than one line.
func across(b []byte, k kind) string {
	low := lower(b)
	if has(low, "password") && has(low, "machine", "default") && has(low, "login") {
		for _, m := range netrc().FindAllSubmatch(b, 100) {
			if k.real(m[1]) {
				return "a password is set"
			}
		}
	}
	for at := 0; ; at += len("value") {
		i := bytes.Index(low[at:], []byte("value"))
		if i < 0 {
			return ""
		}
		at += i
		name := nameBefore(low[:at])
		if name < 0 {
			continue
		}
		if m := pair().FindSubmatch(b[name:min(len(b), at+1024)]); m != nil && k.real(m[1]) {
			return "a password is set"
		}
	}
}

// nameBefore is where `name: NAME` begins at the end of a text, or -1.
func nameBefore(low []byte) int {
	t := bytes.TrimRight(low[max(0, len(low)-512):], " \t\r\n,\"'")
	t = bytes.TrimRight(t, "abcdefghijklmnopqrstuvwxyz0123456789_.-")
	t = bytes.TrimRight(t, " \t\"'")
	t, ok := bytes.CutSuffix(t, []byte(":"))
	t = bytes.TrimRight(t, " \t\"'")
	if !ok || !bytes.HasSuffix(t, []byte("name")) {
		return -1
	}
	return max(0, len(low)-512) + len(t) - len("name")
}
