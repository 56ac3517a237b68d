package archive

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
	"github.com/opencontainers/go-digest"
)

// The bounds of a Release file; Debian's own is 150 kB and lists 1,800 files.
const (
	maxRelease    = 4 << 20
	maxSignatures = 64
	maxListed     = 20_000 // indexes of packages among them
)

// release is a Release file whose signature was good.
type release struct {
	origin, label, suite, codename string

	date, validUntil time.Time // validUntil is zero where there is none
	byHash           bool
	notAutomatic     bool              // what it has is for those who ask, as of backports
	noAll            bool              // the indexes of each architecture hold the packages of "all"
	files            map[string]listed // indexes, by path below the suite's folder

	signedBy []string // fingerprints of the primary keys, sorted
	blob     []byte   // what is kept as evidence
}

// listed is a file as a Release names it.
type listed struct {
	sha256 string
	size   int64
}

// sum is the SHA-256 of an index, of any compression of it.
func (r *release) sum(stem string) string {
	for _, e := range slices.Backward(endings) {
		if l, ok := r.files[stem+e]; ok {
			return l.sha256
		}
	}
	return ""
}

func (l listed) digest() digest.Digest { return digest.NewDigestFromEncoded(digest.SHA256, l.sha256) }

// signed takes a signed file apart: what it says, the bytes that were signed, and
// the signatures.
type signed struct {
	text, message, signatures []byte
}

var errCutOff = errors.New("it is no clear-signed message")

const signatureMark = "-----BEGIN PGP SIGNATURE-----"

// split takes an InRelease apart, or a Release with its armored signature behind
// it (see joinDetached).
func split(blob []byte) (signed, error) {
	if bytes.HasPrefix(blob, []byte("-----BEGIN PGP SIGNED MESSAGE-----")) {
		block, _ := clearsign.Decode(blob)
		if block == nil {
			return signed{}, errCutOff
		}
		sigs, err := readAtMost(block.ArmoredSignature.Body, maxRelease)
		if err != nil {
			return signed{}, fmt.Errorf("decoding its signature: %w", err)
		}
		return signed{block.Plaintext, block.Bytes, sigs}, nil
	}
	i := bytes.LastIndex(blob, []byte("\n"+signatureMark))
	if i < 0 {
		return signed{}, errors.New("it is not signed")
	}
	block, err := armor.Decode(bytes.NewReader(blob[i+1:]))
	if err != nil {
		return signed{}, fmt.Errorf("decoding its signature: %w", err)
	}
	sigs, err := readAtMost(block.Body, maxRelease)
	if err != nil {
		return signed{}, fmt.Errorf("decoding its signature: %w", err)
	}
	return signed{blob[:i+1], blob[:i+1], sigs}, nil
}

// joinDetached makes one piece of evidence of a Release and its Release.gpg, which
// may be binary.
func joinDetached(text, sig []byte) ([]byte, error) {
	if len(text) == 0 || text[len(text)-1] != '\n' {
		return nil, errors.New("its last line has no end")
	}
	if bytes.Contains(sig, []byte(signatureMark)) {
		return slices.Concat(text, bytes.TrimSpace(sig), []byte("\n")), nil
	}
	out := bytes.NewBuffer(slices.Clone(text))
	w, err := armor.Encode(out, openpgp.SignatureType, nil)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(sig); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

// verify parses a signed Release whose signer is in keys. The clock of the
// signatures is the file's own date: keys expire, and what they signed before that
// stays signed.
func verify(blob []byte, keys openpgp.EntityList) (*release, error) {
	if len(blob) > maxRelease {
		return nil, fmt.Errorf("it is longer than %d bytes", maxRelease)
	}
	s, err := split(blob)
	if err != nil {
		return nil, err
	}
	rel, err := parseRelease(bytes.NewReader(s.text))
	if err != nil {
		return nil, err
	}
	if rel.signedBy, err = signers(s, keys, rel.date); err != nil {
		return nil, err
	}
	rel.blob = blob
	return rel, nil
}

// signers are the primary keys with a good signature at the time of date. One is
// needed, as for apt; a file that several keys have signed need not have them all
// on the host.
func signers(s signed, keys openpgp.EntityList, date time.Time) ([]string, error) {
	var prints []string
	failed := errors.New("no key of the archive is on the host")
	if len(keys) > 0 {
		failed = errors.New("it is signed by no key that the host trusts for it")
	}
	packets := packet.NewReader(bytes.NewReader(s.signatures))
	for range maxSignatures {
		p, err := packets.Next()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			failed = fmt.Errorf("reading its signature: %w", err)
			break
		}
		sig, ok := p.(*packet.Signature)
		if !ok || sig.IssuerKeyId == nil || len(keys.EntitiesById(*sig.IssuerKeyId)) == 0 {
			continue
		}
		signer, err := checkOne(s.message, sig, keys, date)
		if err != nil {
			failed = fmt.Errorf("checking its signature by key %016X: %w", *sig.IssuerKeyId, err)
			continue
		}
		if f := fingerprint(signer); !slices.Contains(prints, f) {
			prints = append(prints, f)
		}
	}
	if len(prints) == 0 {
		return nil, failed
	}
	slices.Sort(prints)
	return prints, nil
}

func checkOne(message []byte, sig *packet.Signature, keys openpgp.EntityList, date time.Time) (*openpgp.Entity, error) {
	var raw bytes.Buffer
	if err := sig.Serialize(&raw); err != nil {
		return nil, err
	}
	clock := date
	if sig.CreationTime.After(clock) { // signed some time after it was written
		clock = sig.CreationTime
	}
	config := &packet.Config{Time: func() time.Time { return clock }}
	_, signer, err := openpgp.VerifyDetachedSignature(keys, bytes.NewReader(message), &raw, config)
	if err != nil {
		return nil, err
	}
	if signer == nil {
		return nil, errors.New("its key is unknown")
	}
	return signer, nil
}

// parseRelease parses the fields of a Release that matter here.
func parseRelease(r io.Reader) (*release, error) {
	var rel *release
	err := stanzas(r, func(s stanza) (err error) {
		if rel != nil {
			return errors.New("it has more than one paragraph")
		}
		rel = &release{origin: s["origin"], label: s["label"], suite: s["suite"], codename: s["codename"],
			byHash: isYes(s["acquire-by-hash"]), notAutomatic: isYes(s["notautomatic"]),
			noAll: s["architectures"] != "" && !slices.Contains(s.fields("architectures"), "all") ||
				slices.Contains(s.fields("no-support-for-architecture-all"), "Packages")}
		if rel.date, err = parseDate(s["date"]); err != nil {
			return fmt.Errorf("its date: %w", err)
		}
		if v := s["valid-until"]; v != "" {
			if rel.validUntil, err = parseDate(v); err != nil {
				return fmt.Errorf("its valid-until: %w", err)
			}
		}
		rel.files, err = parseListed(s["sha256"])
		return err
	})
	if err != nil {
		return nil, err
	}
	if rel == nil {
		return nil, errors.New("it is empty")
	}
	return rel, nil
}

// parseDate reads the dates of a Release, which are written in UTC; the word for
// it differs between archives.
func parseDate(s string) (time.Time, error) {
	for _, layout := range []string{"Mon, _2 Jan 2006 15:04:05 MST", time.RFC1123Z, "Mon, _2 Jan 2006 15:04:05 -0700"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no date", s)
}

// isIndex tells the indexes of packages and of their files from others.
func isIndex(name string) bool {
	return name == "Packages" || strings.HasPrefix(name, "Contents-") && !strings.HasPrefix(name, "Contents-udeb")
}

// parseListed parses the lines of a SHA256 field (digest, size, path) and keeps
// the indexes.
func parseListed(field string) (map[string]listed, error) {
	files := make(map[string]listed)
	for line := range strings.Lines(field) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		if len(f) != 3 || !isSHA256(f[0]) {
			return nil, errors.New("a line of its SHA256 field is malformed")
		}
		size, err := strconv.ParseInt(f[1], 10, 64)
		if err != nil || size < 0 {
			return nil, errors.New("a size in its SHA256 field is malformed")
		}
		if stem, _ := cutEnding(f[2]); !isIndex(path.Base(stem)) {
			continue
		}
		if len(files) == maxListed {
			return nil, fmt.Errorf("it lists more than %d indexes", maxListed)
		}
		files[f[2]] = listed{strings.ToLower(f[0]), size}
	}
	return files, nil
}

func isSHA256(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == sha256.Size
}

// name suggests what the archive is called in a lock: "debian-bullseye".
func (r *release) name(s source) string {
	who := r.origin
	if who == "" {
		who = r.label
	}
	// Debian's suites are renamed with each release and its code names stay;
	// Ubuntu's code name is the same for the release and its updates.
	what := r.codename
	if what == "" || r.suite != what && strings.HasPrefix(r.suite, what) {
		what = r.suite
	}
	if what == "" {
		what = s.suite
	}
	if slug := slugify(who + " " + what); slug != "" {
		return slug
	}
	return "archive"
}

// slugify keeps letters, digits and dots, in lower case, with single dashes between
// them.
func slugify(s string) string {
	if len(s) > 80 {
		s = s[:80]
	}
	words := strings.FieldsFunc(strings.ToLower(s), func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '.'
	})
	for i, w := range words {
		words[i] = strings.Trim(w, ".")
	}
	words = slices.DeleteFunc(words, func(w string) bool { return w == "" })
	return strings.Join(words, "-")
}
