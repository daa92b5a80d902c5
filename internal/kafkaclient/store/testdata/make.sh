#!/bin/sh
# Makes the stores of this directory, for 100 years, with keytool (Java 17) and openssl (3.0).
# pbmac1.p12 is from elsewhere: Encode of Modern2026 of software.sslmate.com/src/go-pkcs12 v0.7.4.
# All have the password "changeit" unless their name says otherwise. Run it in an empty directory.
set -eu
export LC_ALL=C.UTF-8
pass=changeit
odd='pä€😀 "x'
days=36500
kt() { keytool -J-Duser.language=en "$@" -storepass "$pass" >keytool.log 2>&1 || { cat keytool.log; exit 1; }; }
legacy=-J-Dkeystore.pkcs12.legacy

# An authority, one between, and a client's certificate with its chain.
req() { openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days $days "$@" 2>/dev/null; }
req -subj /CN=root -keyout root.key -out root.pem -addext keyUsage=critical,keyCertSign
req -subj /CN=other -keyout other.key -out other.pem
issue() { # subject, issuer, extension
	openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$1" -keyout "$1.key" -out "$1.csr" 2>/dev/null
	printf '%s\n' "$3" >ext
	openssl x509 -req -in "$1.csr" -CA "$2.pem" -CAkey "$2.key" -CAcreateserial -days $days -extfile ext -out "$1.pem" 2>/dev/null
}
issue middle root basicConstraints=critical,CA:true
issue client middle basicConstraints=CA:false
cat middle.pem root.pem >issuers.pem
openssl req -x509 -newkey rsa:2048 -nodes -days $days -subj /CN=rsa -keyout rsa.key -out rsa.pem 2>/dev/null

# PKCS #12 of openssl.
p12() { out=$1; shift; openssl pkcs12 -export -passout "pass:$pass" -out "$out" "$@"; }
p12 openssl.p12 -inkey client.key -in client.pem -certfile issuers.pem -name client
p12 openssl-legacy.p12 -legacy -inkey client.key -in client.pem -certfile issuers.pem -name client
p12 openssl-rsa.p12 -inkey rsa.key -in rsa.pem
p12 openssl-trust.p12 -nokeys -in root.pem -certfile other.pem
p12 openssl-plain.p12 -nomac -keypbe NONE -certpbe NONE -inkey client.key -in client.pem -certfile issuers.pem
openssl pkcs12 -export -passout pass: -out openssl-no-password.p12 -inkey client.key -in client.pem

# Java's.
for type in jks pkcs12; do
	kt -importcert -noprompt -storetype $type -keystore trust.$type -alias root -file root.pem
	kt -importcert -noprompt -storetype $type -keystore trust.$type -alias other -file other.pem
	kt -importkeystore -noprompt -srckeystore openssl.p12 -srcstorepass $pass -deststoretype $type -destkeystore key.$type
	kt -importkeystore -noprompt -srckeystore openssl.p12 -srcstorepass $pass -deststoretype $type -destkeystore two.$type
	kt -importkeystore -noprompt -srckeystore openssl-rsa.p12 -srcstorepass $pass -srcalias 1 -destalias zwei -deststoretype $type -destkeystore two.$type
	kt -importkeystore -noprompt -srckeystore openssl.p12 -srcstorepass $pass -deststoretype $type -destkeystore both.$type
	kt -importcert -noprompt -storetype $type -keystore both.$type -alias other -file other.pem
done
pass=$odd
p12 odd-password.p12 -legacy -inkey client.key -in client.pem
kt -importkeystore -noprompt -srckeystore openssl.p12 -srcstorepass changeit -deststoretype jks -destkeystore odd-password.jks -destkeypass "$odd"
pass=changeit
kt -importkeystore -noprompt -srckeystore openssl.p12 -srcstorepass $pass -srcalias client -deststoretype jks -destkeystore key-password.jks -destkeypass keypass
kt -importkeystore -noprompt -srckeystore openssl.p12 -srcstorepass $pass -deststoretype jceks -destkeystore key.jceks
kt $legacy -importcert -noprompt -storetype pkcs12 -keystore trust-legacy.pkcs12 -alias root -file root.pem
kt $legacy -importkeystore -noprompt -srckeystore openssl.p12 -srcstorepass $pass -deststoretype pkcs12 -destkeystore key-legacy.pkcs12
kt -J-Dkeystore.pkcs12.certProtectionAlgorithm=NONE -J-Dkeystore.pkcs12.macAlgorithm=NONE \
	-importcert -noprompt -storetype pkcs12 -keystore trust-no-password.pkcs12 -alias root -file root.pem

# Private keys as PEM.
pk8() { out=$1; shift; openssl pkcs8 -topk8 -in client.key -passout "pass:$pass" -out "$out" "$@"; }
pk8 client-aes256.key -v2 aes-256-cbc
pk8 client-aes128-sha512.key -v2 aes-128-cbc -v2prf hmacWithSHA512 -iter 100000
pk8 client-3des.key -v2 des3 -v2prf hmacWithSHA1
pk8 client-pkcs12-3des.key -v1 PBE-SHA1-3DES
pk8 client-scrypt.key -scrypt
pk8 client-rounds.key -v2 aes-256-cbc -iter 2000001
pk8 client-md5.key -provider legacy -provider default -v1 PBE-MD5-DES
openssl ec -in client.key -aes256 -passout pass:$pass -out client-old.key 2>/dev/null
rm -f ./*.csr ./*.srl ext keytool.log root.key other.key middle.key rsa.key issuers.pem middle.pem
