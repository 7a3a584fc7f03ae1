// A wallet of JavaScript: js-lnurl reads the link, lnurl signs. One line of JSON back.
//   login.mjs LNURL        {callback, domain, k1, tag; key, sig}

import { getParams } from 'js-lnurl';
import lnurl from 'lnurl';

const { callback, domain, k1, tag } = await getParams(process.argv[2]);
const { privKey, pubKey } = lnurl.generateRandomLinkingKey();
const sig = lnurl.createAuthorizationSignature(Buffer.from(k1, 'hex'), privKey).toString('hex');
console.log(JSON.stringify({ callback, domain, k1, tag, key: pubKey.toString('hex'), sig }));
