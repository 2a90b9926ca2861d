package task

import (
	"maps"
	"slices"
	"strings"
)

// stopwords are the function words of each language, lower case: articles,
// pronouns, prepositions, conjunctions, auxiliaries. They name a text's
// language, and say nothing of its subject. Short on purpose: the words that
// make up a third of any text are few.
var stopwords = map[string]map[string]bool{
	"bg": wordSet(`и в на да се не за от е по са си с че като до ще или но при това този тази които който беше бъде има може към след между ние вие те той тя аз`),
	"cs": wordSet(`a v se na je že s z do to o i ve k pro za by ale jsem jako jsou po si tak byl jeho od které který která bylo byla při může než nebo ze už jen být pod až není také když mezi`),
	"da": wordSet(`og i at det er en til af på som med der de for ikke den har jeg et han om var men sig havde så vi eller kan fra blev hun skal ville efter også ud være hvor når over hvis kun mere alle dette denne nogle`),
	"de": wordSet(`der die und in den von zu das mit sich des auf für ist im dem nicht ein eine als auch es an werden aus er hat dass sie nach wird bei einer um am sind noch wie einem über einen so zum war haben nur oder aber vor zur bis mehr durch man sein wurde wir ich ihr uns euch ihre ihren seine kann können wenn sehr was diese dieser dieses unter gegen vom hatte schon doch`),
	"en": wordSet(`the of and to in a is that it for was on are as with his they at be this from have or by had not but what all were when we there can an your which their if do will each how them then she many some so these would other into has more her him see could no than been its who did my over such about because me only our you he i any most also where while should may must does`),
	"es": wordSet(`de la que el en y a los del se las por un para con no una su al lo como más pero sus le ya o este sí porque esta entre cuando muy sin sobre también me hasta hay donde quien desde todo nos durante todos uno les ni contra otros ese eso ante ellos e esto mí antes algunos qué unos yo otro es son fue era está están ha han ser`),
	"fi": wordSet(`ja on ei se että oli hän ovat myös kun mutta joka niin kuin sen tai jos olla mitä tämä vain ole ollut hänen sekä jo nyt minä sinä me te he joita jotka sitä siitä tämän voi kuitenkin`),
	"fr": wordSet(`de la le et les des en un du une que est pour qui dans a par plus pas au sur ne se ce il sont avec son aux d l cette ou ses comme mais on tout nous sa vous même y fait été aussi leur bien peut ces si elle entre deux je tu où sans être très lui dont ont était avait leurs`),
	"hu": wordSet(`a az és hogy nem is egy ez volt meg de csak már ha mint vagy el még azt van kell aki ki fel be lehet szerint után több lesz minden amely nagyon pedig között`),
	"id": wordSet(`yang dan di ini dengan untuk itu dari dalam tidak akan pada juga ke karena bisa ada mereka adalah oleh saya telah atau kami sudah seperti kita dapat ia saat lebih anda namun banyak tersebut`),
	"it": wordSet(`di e il la che in un a per è una con non sono del da si le i al come della nel più dei ha alla anche delle lo gli su ma se o questo questa loro dal nella sul stato era essere ed ai tra dopo molto hanno cui mi ci suo sua fra tutti quando`),
	"nb": wordSet(`og i det er på som en til av at for med den har de ikke et han om var fra men vi hun seg eller ble kan jeg så etter ved også skal være over når hvor hadde enn bare sin noe mer alle dette denne noen må hva uten mellom`),
	"nl": wordSet(`de en van het een in is dat op te zijn met voor niet die aan er om ook als dan bij maar uit nog door over ze ik je hij was worden wordt naar heeft of kan hebben had tot wel deze geen meer werd wat zou zo al mijn haar hun zij wij onder moet tegen omdat`),
	"pl": wordSet(`w i na z się nie do to że o jest jak a od po za przez co ale dla są tak czy już być był jego oraz przed tym tego które który która było może tylko przy lub ich go pod bardzo ze jej także między jako ten bez gdy`),
	"pt": wordSet(`de a o que e do da em um para com não uma os no se na por mais as dos como mas ao ele das à seu sua ou quando muito nos já está eu também só pelo pela até isso ela entre era depois sem mesmo aos ter seus quem nas me esse eles você foi são ser têm há pode`),
	"ro": wordSet(`de și în a la cu o pe nu din că este un mai pentru care ce se au sunt ca fost sau să al fi dar după prin foarte lui ei era până cum dacă aceasta acest între`),
	"ru": wordSet(`и в не на что я он с как это по но к из у за от так же вы о мы для его она был то все бы до они еще или ее если уже при быть только была их были когда чтобы который которые которая может есть очень также этого между после`),
	"sv": wordSet(`och i att det som en på är av för med den till inte har de om ett han men var jag sig från vi så kan när hon under också efter eller nu sin där vid mot ska skulle kommer ut får finns vara hade alla andra mycket än här då sedan över bara blir detta denna`),
	"tr": wordSet(`ve bir bu için de da ile çok daha olarak gibi o ne en var kadar sonra ama mi ki olan ben her değil olduğu göre ise veya hem sadece bana onun şey iki`),
	"uk": wordSet(`і в не на що я він з як це по але до із у за від так же ви ми для його вона був то все або її якщо вже при бути тільки була їх були коли щоб який які яка може є та також між після`),
}

func wordSet(list string) map[string]bool {
	set := map[string]bool{}
	for word := range strings.FieldsSeq(list) {
		set[word] = true
	}
	return set
}

// stopLanguages returns the languages with a list, sorted.
func stopLanguages() []string {
	return slices.Sorted(maps.Keys(stopwords))
}
