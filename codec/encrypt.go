package codec

import (
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
	"io"
	"sync"
)

// Keyring is the secrets of [Encrypted]. The first encrypts, all decrypt.
//
// To change secrets without losing what is stored, in three rollouts: add the
// new one at the end everywhere; move it to the front; drop the old one when
// everything it encrypted has expired.
type Keyring []Secret

// Secret is an AES key and its name.
type Secret struct {
	// ID is stored in clear with every value: 1 to 32 letters, digits, '.', '_'
	// or '-'. A name is never given to another secret.
	ID string
	// Key is 16, 24 or 32 random bytes (AES-128, AES-192, AES-256).
	Key []byte
}

// String returns the ID: a secret never shows in a log.
func (s Secret) String() string { return "Secret(" + s.ID + ")" }

// Format writes [Secret.String] whatever the verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// MarshalText is [Secret.String], for encoders and log/slog.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

const maxSecretID = 32

// check names every fault of the ring.
func (r Keyring) check() error {
	var faults []error
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf("codec: Keyring"+format, args...))
	}
	if len(r) == 0 {
		fault(" is empty: one secret is needed")
	}
	seen := map[string]int{}
	for i, s := range r {
		if !validSecretID(s.ID) {
			fault("[%d].ID is %.40q: want 1 to %d letters, digits, '.', '_' or '-'", i, s.ID, maxSecretID)
		} else if first, dup := seen[s.ID]; dup {
			fault("[%d].ID is that of [%d]: %q", i, first, s.ID)
		} else {
			seen[s.ID] = i
		}
		var or byte
		for _, b := range s.Key {
			or |= b
		}
		switch n := len(s.Key); {
		case n != 16 && n != 24 && n != 32:
			fault("[%d].Key has %d bytes: want 16, 24 or 32", i, n)
		case or == 0:
			fault("[%d].Key is all zero", i)
		}
	}
	return errors.Join(faults...)
}

func validSecretID(id string) bool {
	if id == "" || len(id) > maxSecretID {
		return false
	}
	for _, c := range []byte(id) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}

// The sealed form: sealVersion, length of the id, id, nonce, ciphertext, tag.
const (
	sealVersion = 0x01
	sealNonce   = 12
	sealTag     = 16
)

// Encrypted returns a codec that encrypts what inner writes with AES-GCM and
// a random 96-bit nonce. Its name is "aesgcm(inner)"; secrets are no part of it.
// It adds 30 bytes and the ID of the secret.
//
// It binds the bytes to the key of the entry, so that whoever can write to Redis
// can neither change a value nor show one entry's in the place of another. They
// can still put back an older value of the same entry, or delete it. It hides
// content, not length. Because of the binding it is a [Keyed] codec: the plain
// Append and Decode return [ErrUnbound], and so do the others for an empty key.
//
// Nonces are random, so one secret is good for about four billion values;
// rotate long before. The ring is copied. The error names all that is wrong with
// it, and a nil inner.
func Encrypted[T any](inner Codec[T], ring Keyring) (Codec[T], error) {
	err := ring.check()
	if inner == nil {
		err = errors.Join(errors.New("codec: Encrypted needs a codec to wrap, got nil"), err)
	}
	if err != nil {
		return nil, err
	}
	c := &encrypted[T]{inner: inner}
	for _, s := range ring {
		block, err := aes.NewCipher(s.Key)
		if err != nil {
			return nil, fmt.Errorf("codec: secret %q: %w", s.ID, err)
		}
		aead, err := cipher.NewGCMWithRandomNonce(block)
		if err != nil {
			return nil, fmt.Errorf("codec: secret %q: %w", s.ID, err)
		}
		header := append([]byte{sealVersion, byte(len(s.ID))}, s.ID...)
		c.secrets = append(c.secrets, sealer{id: s.ID, header: header, aead: aead})
	}
	return c, nil
}

type encrypted[T any] struct {
	inner   Codec[T]
	secrets []sealer // the first seals
	space   sync.Pool
}

// sealer is one secret, ready.
type sealer struct {
	id     string
	header []byte // what a sealed value begins with
	aead   cipher.AEAD
}

// sealSpace is what one call needs. It is not wiped between calls: the process
// holds the decoded values in its first tier anyway.
type sealSpace struct{ plain, bound []byte }

func (c *encrypted[T]) Name() string { return "aesgcm(" + c.inner.Name() + ")" }

// Check implements [Checker].
func (c *encrypted[T]) Check() error { return checkInner(c.inner) }

// Append returns [ErrUnbound]: there is no key to bind the bytes to.
func (c *encrypted[T]) Append(dst []byte, _ T) ([]byte, error) { return dst, ErrUnbound }

// Decode returns [ErrUnbound]: there is no key that the bytes are bound to.
func (c *encrypted[T]) Decode(_ []byte, v *T) error {
	var zero T
	*v = zero
	return ErrUnbound
}

func (c *encrypted[T]) AppendKeyed(dst []byte, key string, v T) ([]byte, error) {
	if key == "" {
		return dst, ErrUnbound
	}
	space := c.take()
	defer c.give(space)
	plain, err := AppendFor(c.inner, space.plain, key, v)
	if err != nil {
		return dst, err
	}
	space.plain = plain
	s := c.secrets[0]
	space.bound = s.bind(space.bound, key)
	return s.aead.Seal(append(dst, s.header...), nil, plain, space.bound), nil
}

func (c *encrypted[T]) DecodeKeyed(src []byte, key string, v *T) error {
	var zero T
	*v = zero
	if key == "" {
		return ErrUnbound
	}
	s, sealed, err := c.opener(src)
	if err != nil {
		return err
	}
	space := c.take()
	defer c.give(space)
	space.bound = s.bind(space.bound, key)
	plain, err := s.aead.Open(space.plain, nil, sealed, space.bound)
	if err != nil {
		return &fault{kind: ErrForged, codec: "aesgcm", text: "changed, or written for another key", cause: err}
	}
	space.plain = plain
	return DecodeFor(c.inner, plain, key, v)
}

// bind returns the data that is authenticated with a value. The header says its
// own length, so no other header and key make the same bytes.
func (s *sealer) bind(buf []byte, key string) []byte {
	return append(append(buf[:0], s.header...), key...)
}

// opener finds the secret that src names.
func (c *encrypted[T]) opener(src []byte) (*sealer, []byte, error) {
	switch {
	case len(src) < 2:
		return nil, nil, malformed("aesgcm", len(src), "ends inside the header", nil)
	case src[0] != sealVersion:
		return nil, nil, malformed("aesgcm", 0, "unknown version", nil)
	case len(src) < 2+int(src[1])+sealNonce+sealTag:
		return nil, nil, malformed("aesgcm", len(src), "too short", nil)
	}
	end := 2 + int(src[1])
	id, sealed := src[2:end], src[end:]
	if !validSecretID(string(id)) {
		return nil, nil, malformed("aesgcm", 2, "no secret has such an ID", nil)
	}
	for i := range c.secrets {
		if c.secrets[i].id == string(id) {
			return &c.secrets[i], sealed, nil
		}
	}
	return nil, nil, &fault{kind: ErrSecret, codec: "aesgcm", text: fmt.Sprintf("%q", id)}
}

func (c *encrypted[T]) take() *sealSpace {
	if space, ok := c.space.Get().(*sealSpace); ok {
		return space
	}
	return &sealSpace{}
}

func (c *encrypted[T]) give(space *sealSpace) {
	if cap(space.plain) > keepScratch {
		return
	}
	space.plain = space.plain[:0]
	c.space.Put(space)
}
