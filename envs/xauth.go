package envs

import (
	"encoding/binary"
	"errors"
)

// familyWild is the family of an entry that holds for a server on any host.
const familyWild = 0xffff

// maxCookies bounds the entries of an Xauthority file.
const maxCookies = 4096

// xauthFor returns, as an Xauthority file, the entries of another for one display
// number. An entry names the host it is for, and a session has another host name than
// this machine: in what comes back any host will do.
//
// Each entry is a family of two bytes, then an address, a display number, the name of
// a method and its data, each after its length in two bytes; see Xsecurity(7) and
// libXau's AuRead.c.
func xauthFor(data []byte, number string) ([]byte, error) {
	var out []byte
	for n := 0; len(data) > 0; n++ {
		if n == maxCookies || len(data) < 2 {
			return nil, errors.New("it is no Xauthority file")
		}
		data = data[2:]
		var fields [4][]byte // address, number, method, data
		for i := range fields {
			if len(data) < 2 || len(data)-2 < int(binary.BigEndian.Uint16(data)) {
				return nil, errors.New("it is no Xauthority file")
			}
			size := int(binary.BigEndian.Uint16(data))
			fields[i], data = data[2:2+size], data[2+size:]
		}
		if of := string(fields[1]); of != "" && of != number {
			continue
		}
		fields[0], fields[1] = nil, []byte(number)
		out = binary.BigEndian.AppendUint16(out, familyWild)
		for _, f := range fields {
			out = binary.BigEndian.AppendUint16(out, uint16(len(f)))
			out = append(out, f...)
		}
	}
	return out, nil
}
