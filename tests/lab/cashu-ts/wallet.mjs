// Ecash by cashu-ts, the library of most wallets in browsers. One line of JSON back.
//   wallet.mjs URL quote AMOUNT               {quote, request}
//   wallet.mjs URL mint QUOTE AMOUNT PART...  {tokens: one for each part, locked: the last part's, locked to a key of its own; key}
//   wallet.mjs URL receive TOKEN [KEY]        {amount: what arrived}

import { Wallet, createRandomSecretKey, getEncodedToken, getPubKeyFromPrivKey, hasValidDleq } from '@cashu/cashu-ts';

const [url, command, ...words] = process.argv.slice(2);
const hex = (bytes) => Buffer.from(bytes).toString('hex');
const sum = (proofs) => proofs.reduce((sum, proof) => sum + Number(proof.amount), 0);
const wallet = new Wallet(url);
await wallet.loadMint();

const commands = {
	async quote(amount) {
		const { quote, request } = await wallet.createMintQuoteBolt11(Number(amount));
		return { quote, request };
	},
	async mint(quote, amount, ...parts) {
		let kept = await wallet.mintProofsBolt11(Number(amount), quote);
		if (!kept.every((proof) => hasValidDleq(proof, wallet.keyChain.getKeyset(proof.id)))) throw new Error('the mint has not proven its signatures');
		const key = hex(createRandomSecretKey());
		const pubkey = hex(getPubKeyFromPrivKey(Buffer.from(key, 'hex')));
		const tokens = [];
		for (const [number, part] of parts.entries()) {
			const sending = wallet.ops.send(Number(part), kept);
			const { send, keep } = await (number + 1 < parts.length ? sending : sending.asP2PK({ pubkey })).run();
			tokens.push(getEncodedToken({ mint: url, proofs: send, unit: 'sat' }, { removeDleq: number % 2 === 1 }));
			kept = keep;
		}
		return { tokens: tokens.slice(0, -1), locked: tokens.at(-1), key };
	},
	async receive(token, key) {
		return { amount: sum(await wallet.receive(token, key ? { privkey: key } : {})) };
	},
};

console.log(JSON.stringify(await commands[command](...words)));
