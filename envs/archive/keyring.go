package archive

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// The bounds of one keyring file; Debian's has 56 kB.
const (
	maxKeyring = 4 << 20 // bytes
	maxBlocks  = 64      // of armor
)

// readKeyring parses a keyring, binary or armored. Keys of kinds that nobody should
// rely on any more are left out.
func readKeyring(data []byte) (openpgp.EntityList, error) {
	var all openpgp.EntityList
	if !bytes.Contains(data, []byte("-----BEGIN PGP")) {
		keys, err := openpgp.ReadKeyRing(bytes.NewReader(data))
		if err != nil {
			return nil, err
		}
		all = keys
	}
	for range maxBlocks { // one after the other
		start := bytes.Index(data, []byte("-----BEGIN PGP"))
		if start < 0 {
			break
		}
		data = data[start:]
		block, err := armor.Decode(bytes.NewReader(data))
		if err != nil {
			return all, fmt.Errorf("decoding armor: %w", err)
		}
		keys, err := openpgp.ReadKeyRing(block.Body)
		if err != nil {
			return all, err
		}
		all = append(all, keys...)
		data = data[1:]
	}
	if len(all) == 0 {
		return nil, errors.New("no key in it")
	}
	return all, nil
}

// fingerprint is how apt and people write it.
func fingerprint(e *openpgp.Entity) string {
	return strings.ToUpper(hex.EncodeToString(e.PrimaryKey.Fingerprint))
}

// restrict keeps the keys that one of the fingerprints names, of the key itself or
// of one of its subkeys. A "!" at the end, which asks for just that subkey, is
// taken for the whole key.
func restrict(keys openpgp.EntityList, prints []string) (out openpgp.EntityList) {
	for _, k := range keys {
		mine := []string{fingerprint(k)}
		for _, s := range k.Subkeys {
			mine = append(mine, strings.ToUpper(hex.EncodeToString(s.PublicKey.Fingerprint)))
		}
		for _, p := range prints {
			if matches(mine, strings.ToUpper(strings.TrimSuffix(p, "!"))) {
				out = append(out, k)
				break
			}
		}
	}
	return out
}

func matches(mine []string, wanted string) bool {
	for _, m := range mine {
		if m == wanted {
			return true
		}
	}
	return false
}
