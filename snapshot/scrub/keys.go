package scrub

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"strings"
)

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

// A PEM block that was encoded once more begins with one of these, by how many bytes
// were before it.
var encodedPEM = [3]string{"LS0tLS1CRUdJTi", "0tLS0tQkVHSU4g", "tLS0tLUJFR0lOI"}

// encodedKey finds a private key whose PEM is in base64, as Kubernetes has it.
func encodedKey(b []byte) bool {
	for skip, literal := range encodedPEM {
		for rest := b; ; {
			at := bytes.Index(rest, []byte(literal))
			if at < 0 {
				break
			}
			from := rest[at:]
			rest = rest[at+len(literal):]
			if skip > 0 { // the four characters that it begins in
				from = append([]byte("AAAA")[:skip+1:skip+1], from...)
			}
			if privateKey(decodeBase64(from[:min(len(from), overlap)]), true) != "" {
				return true
			}
		}
	}
	return false
}

// decodeBase64 decodes as far as there is base64, in lines or not.
func decodeBase64(b []byte) []byte {
	var text []byte
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '+' || c == '/':
			text = append(text, c)
		case c == '\\' && i+1 < len(b) && b[i+1] == 'n':
			i++
		case c == ' ' || c == '\n' || c == '\r' || c == '\t':
		default:
			i = len(b)
		}
	}
	out := make([]byte, base64.RawStdEncoding.DecodedLen(len(text)))
	n, _ := base64.RawStdEncoding.Decode(out, text[:len(text)&^3])
	return out[:n]
}

// binaryKey tells keys that aren't text by how their files begin.
func binaryKey(b []byte) string {
	switch {
	case len(b) > 16 && b[0] == 5 && (b[1] == 1 || b[1] == 2) && isKeytab(b):
		return "a Kerberos keytab"
	case len(b) > 16 && (bytes.HasPrefix(b, []byte("\xfe\xed\xfe\xed")) || bytes.HasPrefix(b, []byte("\xce\xce\xce\xce"))) &&
		binary.BigEndian.Uint32(b[12:]) == 1: // its first entry; 2 is a certificate
		return "a Java keystore with a private key"
	case len(b) > 16 && b[0] == 0x30 && isDERKey(b):
		return "a private key"
	}
	return ""
}

// isKeytab looks at the first entry: its length, a number of components, and the realm.
func isKeytab(b []byte) bool {
	size, components, realm := int32(binary.BigEndian.Uint32(b[2:])), binary.BigEndian.Uint16(b[6:]), int(binary.BigEndian.Uint16(b[8:]))
	return size > 16 && size < 4096 && components > 0 && components < 16 && realm > 0 && 10+realm <= len(b) && realm < 256 &&
		isText(b[10:10+realm])
}

// isDERKey tells PKCS #8 (a version, then an algorithm), PKCS #1 (a version, then a
// modulus) and SEC 1 (version 1, then a key) from certificates, which have neither.
func isDERKey(b []byte) bool {
	body := b[2:]
	if b[1]&0x80 != 0 {
		body = body[min(int(b[1]&0x7f), 4):]
	}
	for _, start := range []string{"\x02\x01\x00\x30\x0d\x06\x09\x2a\x86\x48", "\x02\x01\x00\x30\x13\x06\x07\x2a\x86\x48",
		"\x02\x01\x00\x30\x05\x06\x03\x2b\x65", "\x02\x01\x00\x02\x82", "\x02\x01\x00\x02\x81", "\x02\x01\x01\x04\x20", "\x02\x01\x01\x04\x30"} {
		if bytes.HasPrefix(body, []byte(start)) {
			return true
		}
	}
	return false
}
