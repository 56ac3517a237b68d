package scrub

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
)

const (
	window  = 256 << 10 // bytes looked at together
	overlap = 32 << 10  // a private key, or a long line, is not longer
	limit   = 256 << 20 // where reading a file ends
)

// Content implements snapshot.Rules. It reads a window at a time, each with the
// end of the one before it, and at most 256 MiB. A text is searched for private
// keys, tokens of known shapes and addresses with a password; where it is
// configuration, for assignments of a password. Anything else is searched for
// complete private keys only: programs hold the words around one.
func (r *Rules) Content(path string, content io.Reader) (string, error) {
	if r.named(path) {
		return "", nil
	}
	pooled := buffers.Get().(*[]byte)
	defer buffers.Put(pooled)
	buf := (*pooled)[:0]
	look := search{config: isConfig(path)}
	for total := 0; total < limit; {
		n, err := io.ReadFull(content, buf[len(buf):min(len(buf)+window, cap(buf))])
		buf = buf[:len(buf)+n]
		if total == 0 {
			look.wide = isWide(buf)
			look.text = look.wide || isText(buf)
		}
		total += n
		seen := buf
		if look.wide { // the half of it that ASCII takes
			seen = bytes.ReplaceAll(buf, []byte{0}, nil)
		}
		if reason := look.in(seen); reason != "" {
			return reason, nil
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return "", nil
		}
		if err != nil {
			return "", fmt.Errorf("reading /%s: %w", path, err)
		}
		keep := buf[len(buf)-min(len(buf), overlap):]
		if look.text { // begin with a whole line, for what is bound to its beginning
			if i := bytes.IndexByte(keep, '\n'); i >= 0 {
				keep = keep[i+1:]
			}
		}
		buf = buf[:copy(buf[:cap(buf)], keep)]
	}
	return "", nil
}

// buffers hold a window each: most files are a hundredth of one.
var buffers = sync.Pool{New: func() any {
	b := make([]byte, 0, window+overlap)
	return &b
}}

type search struct{ text, config, wide bool }

func (s search) in(b []byte) string {
	if reason := privateKey(b, s.text); reason != "" || !s.text {
		return reason
	}
	if reason := token(b); reason != "" {
		return reason
	}
	if passwordInAddress(b) {
		return "an address with a password"
	}
	if s.config {
		return assignment(b)
	}
	return ""
}

// isWide tells UTF-16 by its byte order mark, as programs from Windows write it.
func isWide(b []byte) bool {
	return bytes.HasPrefix(b, []byte("\xff\xfe")) || bytes.HasPrefix(b, []byte("\xfe\xff"))
}

func isText(b []byte) bool {
	b = b[:min(len(b), 8<<10)]
	return bytes.IndexByte(b, 0) < 0 && !bytes.HasPrefix(b, []byte("\x1f\x8b")) &&
		!bytes.HasPrefix(b, []byte("\x28\xb5\x2f\xfd")) && !bytes.HasPrefix(b, []byte("\xfd7zXZ"))
}

// sourceCode are the extensions of files whose assignments are not settings.
var sourceCode = strings.Fields(`c h cc cpp hpp cxx tcc go rs java kt scala cs swift m py pyi pl pm pod t rb erb lua tcl r jl hs ml
	mli el lisp scm clj ex exs erl js mjs cjs ts tsx jsx vue css scss html htm xhtml xsl xsd dtd rng md rst txt tex bib po pot
	mo svg awk sed vim diff patch map sql ipynb proto g4 y l f f90 pas asm s in am ac m4 cmake 1 2 3 4 5 6 7 8 9 gz`)

var isSource = func() map[string]bool {
	m := map[string]bool{}
	for _, e := range sourceCode {
		m[e] = true
	}
	return m
}()

// isConfig reports whether a file's assignments are settings: what lies in etc,
// or is called like configuration, and isn't documentation.
func isConfig(path string) bool {
	for _, doc := range []string{"usr/share/doc/", "usr/share/man/", "usr/share/locale/", "usr/share/perl/", "usr/share/info/",
		"usr/share/bash-completion/", "usr/share/lintian/", "usr/include/", "etc/bash_completion.d/"} {
		if strings.HasPrefix(path, doc) {
			return false
		}
	}
	for _, own := range []string{"etc/", "usr/local/bin/", "usr/local/sbin/"} {
		if strings.HasPrefix(path, own) { // the administrator's, in whatever language
			return true
		}
	}
	name := path[strings.LastIndexByte(path, '/')+1:]
	dot := strings.LastIndexByte(name, '.')
	if dot < 0 { // a program more often than not, where programs are
		return !strings.HasPrefix(path, "usr/") || strings.HasPrefix(path, "usr/local/")
	}
	return !isSource[strings.ToLower(name[dot+1:])]
}

var (
	begin = lazy(`-----? ?BEGIN (?:[A-Z0-9]+ ){0,4}(?:PRIVATE KEY(?: BLOCK)?|OpenVPN Static key V1|SSH2 ENCRYPTED PRIVATE KEY) ?-?----`)
	end   = lazy(`-----? ?END (?:[A-Z0-9]+ ){0,4}(?:PRIVATE KEY(?: BLOCK)?|OpenVPN Static key V1|SSH2 ENCRYPTED PRIVATE KEY) ?-?----`)
	// What may stand between: base64 in lines, or in a string with \n for them,
	// and the headers of RFC 1421 and OpenPGP.
	header = lazy(`(?m)^[ \t]*[A-Z][A-Za-z-]{2,30}: [^\n]{0,200}$`)
)

// privateKey finds a PEM block with something in it; in a program it has to be
// complete, which the bare words in libcrypto are not.
func privateKey(b []byte, text bool) string {
	const reason = "a private key"
	if text && (bytes.Contains(b, []byte("PuTTY-User-Key-File-")) && bytes.Contains(b, []byte("Private-Lines:"))) {
		return reason
	}
	for rest := b; ; {
		i := bytes.Index(rest, []byte("BEGIN "))
		if i < 0 {
			return ""
		}
		from := max(i-6, 0)
		at := begin().FindIndex(rest[from:min(i+80, len(rest))])
		rest = rest[i+6:]
		if at == nil {
			continue
		}
		body := rest[min(max(at[1]+from-i-6, 0), len(rest)):]
		body = body[:min(len(body), overlap-1024)]
		stop := end().FindIndex(body)
		if stop != nil {
			body = body[:stop[0]]
		}
		if (stop != nil || text) && keyMaterial(body, stop != nil) {
			return reason
		}
	}
}

// keyMaterial reports whether a PEM body holds enough base64 for a key: the
// shortest, Ed25519's, has 64 characters. Where no end was found it counts what
// comes before the first thing that can't be part of one.
func keyMaterial(body []byte, ended bool) bool {
	body = header().ReplaceAll(body, nil)
	n := 0
	for i := 0; i < len(body); i++ {
		switch c := body[i]; {
		case c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '+' || c == '/' || c == '=':
			n++
		case c == '\\' && i+1 < len(body) && (body[i+1] == 'n' || body[i+1] == 'r'):
			i++
		case strings.IndexByte(" \t\r\n\"'\\,;#>|-.", c) >= 0: // quoting and indentation
		default:
			return !ended && n >= 60
		}
	}
	return n >= 60
}

// shapes are tokens that services give out, by the literal they begin with and
// what has to follow it.
var shapes = []struct{ literal, tail, reason string }{
	{"AKIA", `[0-9A-Z]{16}\b`, "an AWS access key"},
	{"ASIA", `[0-9A-Z]{16}\b`, "an AWS access key"},
	{"ghp_", `[0-9A-Za-z]{36}`, "a GitHub token"},
	{"gho_", `[0-9A-Za-z]{36}`, "a GitHub token"},
	{"ghu_", `[0-9A-Za-z]{36}`, "a GitHub token"},
	{"ghs_", `[0-9A-Za-z]{36}`, "a GitHub token"},
	{"ghr_", `[0-9A-Za-z]{36}`, "a GitHub token"},
	{"github_pat_", `[0-9A-Za-z_]{60,}`, "a GitHub token"},
	{"glpat-", `[0-9A-Za-z_-]{20}`, "a GitLab token"},
	{"gldt-", `[0-9A-Za-z_-]{20}`, "a GitLab token"},
	{"glrt-", `[0-9A-Za-z_-]{20}`, "a GitLab token"},
	{"glptt-", `[0-9a-f]{40}`, "a GitLab token"},
	{"xoxb-", `[0-9]{6,}-[0-9A-Za-z-]{10,}`, "a Slack token"},
	{"xoxp-", `[0-9]{6,}-[0-9A-Za-z-]{10,}`, "a Slack token"},
	{"xoxa-", `[0-9]+-[0-9A-Za-z-]{10,}`, "a Slack token"},
	{"xoxr-", `[0-9]+-[0-9A-Za-z-]{10,}`, "a Slack token"},
	{"xapp-", `[0-9]-[0-9A-Z]{8,}-[0-9A-Za-z-]{10,}`, "a Slack token"},
	{"hooks.slack.com/services/", `T[0-9A-Z]{6,}/B[0-9A-Z]{6,}/[0-9A-Za-z]{20,}`, "a Slack webhook"},
	{"AIza", `[0-9A-Za-z_-]{35}`, "a Google API key"},
	{"GOCSPX-", `[0-9A-Za-z_-]{28}`, "a Google client secret"},
	{"ya29.", `[0-9A-Za-z_-]{40,}`, "a Google access token"},
	{"sk_live_", `[0-9A-Za-z]{24,}`, "a Stripe key"},
	{"rk_live_", `[0-9A-Za-z]{24,}`, "a Stripe key"},
	{"SG.", `[0-9A-Za-z_-]{22}\.[0-9A-Za-z_-]{43}`, "a SendGrid key"},
	{"npm_", `[0-9A-Za-z]{36}\b`, "an npm token"},
	{"pypi-AgE", `[0-9A-Za-z_-]{50,}`, "a PyPI token"},
	{"dckr_pat_", `[0-9A-Za-z_-]{27}`, "a Docker token"},
	{"dop_v1_", `[0-9a-f]{64}`, "a DigitalOcean token"},
	{"hvs.", `[0-9A-Za-z_-]{24,}`, "a Vault token"},
	{"AGE-SECRET-KEY-1", `[0-9A-Z]{58}`, "an age key"},
	{"AccountKey=", `[0-9A-Za-z+/]{86}==`, "an Azure key"},
	{"SharedAccessKey=", `[0-9A-Za-z+/]{43}=`, "an Azure key"},
	{"eyJ", `[0-9A-Za-z_-]{8,}\.eyJ[0-9A-Za-z_-]{8,}\.[0-9A-Za-z_-]{20,}`, "a JSON web token"},
}

var tails = sync.OnceValue(func() []*regexp.Regexp {
	var all []*regexp.Regexp
	for _, s := range shapes {
		all = append(all, regexp.MustCompile(`^`+s.tail))
	}
	return all
})

func token(b []byte) string {
	for i, s := range shapes {
		for rest, before := b, byte(' '); ; {
			at := bytes.Index(rest, []byte(s.literal))
			if at < 0 {
				break
			}
			if at > 0 {
				before = rest[at-1]
			}
			rest = rest[at+len(s.literal):]
			tail := tails()[i].Find(rest[:min(len(rest), 8<<10)])
			if tail != nil && (!wordByte(before) || s.literal[0] == 'h' && strings.Contains(s.literal, "/")) && genuine(s.literal, tail) {
				return s.reason
			}
			before = s.literal[len(s.literal)-1]
		}
	}
	return ""
}

func wordByte(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c == '_'
}

// genuine leaves out what manuals show: words like EXAMPLE, one character over
// and over. A web token has to name its algorithm.
func genuine(literal string, tail []byte) bool {
	if bytes.Contains(bytes.ToUpper(tail), []byte("EXAMPLE")) || len(distinct(tail)) < 6 {
		return false
	}
	if literal != "eyJ" {
		return true
	}
	head, _, _ := bytes.Cut(append([]byte(literal), tail...), []byte("."))
	raw, err := base64.RawURLEncoding.DecodeString(string(head))
	var h struct{ Alg string }
	return err == nil && json.Unmarshal(raw, &h) == nil && h.Alg != ""
}

func distinct(b []byte) map[byte]bool {
	m := map[byte]bool{}
	for _, c := range b {
		m[c] = true
	}
	return m
}
