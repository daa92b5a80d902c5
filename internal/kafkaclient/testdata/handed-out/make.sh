#!/bin/sh
# Makes the stores of secrets/, with the passwords that the properties files have as placeholders.
set -e
cd "$(dirname "$0")/secrets"
rm -f ./*.jks ./*.p12
store() { # STORE TYPE PASSWORD
	keytool -genkeypair -alias klink -keyalg EC -groupname secp256r1 -validity 36500 -dname "CN=placeholder" \
		-keystore "$1" -storetype "$2" -storepass "$3" -keypass "$3"
}
trust() { # STORE TYPE PASSWORD
	keytool -importcert -noprompt -alias ca -file ca.pem -keystore "$1" -storetype "$2" -storepass "$3"
}
store keystore.jks JKS KEYSTORE_PASSWORD
store user.p12 PKCS12 USER_PASSWORD
store client.keystore.p12 PKCS12 KEY_PASSWORD
keytool -exportcert -rfc -alias klink -keystore user.p12 -storepass USER_PASSWORD >ca.pem
trust truststore.jks JKS changeit
trust client.truststore.jks JKS KEY_PASSWORD
trust ca.p12 PKCS12 CA_PASSWORD
rm ca.pem
