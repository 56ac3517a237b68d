package scrub

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"regexp"
	"strings"
	"sync"
)

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
	{"$apr1$", crypted + `22}\b`, "a password hash"},
	{"$1$", crypted + `22}\b`, "a password hash"},
	{"$5$", rounds + crypted + `43}\b`, "a password hash"},
	{"$6$", rounds + crypted + `86}\b`, "a password hash"},
	{"$y$", `[./0-9A-Za-z]{2,8}\$` + crypted + `43}\b`, "a password hash"},
	{"$2y$", bcrypt, "a password hash"},
	{"$2b$", bcrypt, "a password hash"},
	{"$2a$", bcrypt, "a password hash"},
	{"$argon2", `id?\$v=[0-9]+\$m=[0-9,tp=]+\$[+/0-9A-Za-z]{8,}\$[+/0-9A-Za-z]{20,}`, "a password hash"},
	{"{SSHA}", `[+/0-9A-Za-z]{32,}=*`, "a password hash"},
	{"{SHA}", `[+/0-9A-Za-z]{27}=`, "a password hash"},
	{"SCRAM-SHA-256$", `[0-9]+:[+/0-9A-Za-z=]{16,}\$[+/0-9A-Za-z=]{40,}:`, "a password hash"},
	{"eyJ", `[0-9A-Za-z_-]{8,}\.eyJ[0-9A-Za-z_-]{8,}\.[0-9A-Za-z_-]{20,}`, "a JSON web token"},
}

// What crypt(3) writes after the mark of a method.
const (
	rounds  = `(?:rounds=[0-9]+\$)?`
	crypted = `[./0-9A-Za-z]{1,32}\$[./0-9A-Za-z]{`
	bcrypt  = `[0-9]{2}\$[./0-9A-Za-z]{53}`
)

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
